"""Peak resident bytes of a call (Linux). As a script: of one call, in a process of its own (`measuring.peak_bytes`)."""

from __future__ import annotations

import gc
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path


def resident(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"no {field} in /proc/self/status")
    return int(found[1]) * 1024


def peak_of(work: Callable[[], object]) -> int:
    """Peak resident bytes of a call beyond what was resident before, after one call that is not measured. Only in a
    process started with `measuring.PEAK_ENVIRONMENT`."""
    work()  # whatever is made once (thread pools, tables) is not the work's
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    kept = work()
    peak = max(0, resident("VmHWM") - before)
    del kept
    return peak


def main(module: str, function: str, *arguments: str) -> None:
    print(peak_of(getattr(importlib.import_module(module), function)(*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
