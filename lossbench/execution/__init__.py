"""Running cells: one scheduler loop, one worker entry, local executor."""
