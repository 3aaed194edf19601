"""What a worker does to itself so that its memory is its own affair: a limit, and the first place in the kernel's
list of whom to kill."""

from __future__ import annotations

import contextlib
import re
import resource
from pathlib import Path

#: Of 1000: a worker goes before the scheduler, the fork server, and whatever else runs on the machine.
OOM_SCORE = 500
_limited = False


def killed_first() -> None:
    """When the machine runs out of memory the kernel is to kill a worker. Nothing where it has no such list."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(f"{OOM_SCORE}\n", encoding="ascii")


def limit_memory(gb: float) -> None:
    """Let this process take `gb` beyond what it has now (a fork shares that with its server): then allocations fail
    instead of filling the machine. Nothing where the system does not count.

    Private writable memory counts, whether touched or not; mapped files (the decoded data) do not.
    """
    global _limited
    has = _data_bytes()
    if has is not None:
        _limited = True
        _set_soft(has + int(gb * 1e9))


def limited() -> bool:
    """Whether this process has, or had, such a limit."""
    return _limited


def lift_memory_limit() -> None:
    """Take the limit away again: to report that it was reached takes memory."""
    _set_soft(resource.RLIM_INFINITY)


def _set_soft(limit: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        limit = hard if limit == resource.RLIM_INFINITY else min(limit, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _data_bytes() -> int | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
