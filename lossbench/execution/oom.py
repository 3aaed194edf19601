"""What the kernel tells of processes it killed for want of memory."""

from __future__ import annotations

from pathlib import Path


def oom_kills() -> int:
    """How many processes of this machine the kernel has killed for want of memory; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
