"""Whether records that somebody else made may stand beside ours: `lossbench verify`. Reads files only; trusts none."""
