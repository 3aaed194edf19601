"""Prints the peak resident bytes of one call; see `measure.peak_bytes`. A process of its own for every figure."""

import gc
import importlib
import re
import sys
from pathlib import Path


def resident(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"no {field} in /proc/self/status")
    return int(found[1]) * 1024


def main(module: str, function: str, *arguments: str) -> None:
    work = getattr(importlib.import_module(module), function)(*arguments)
    work()  # whatever is made once (thread pools, tables) is not the work's
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    kept = work()
    print(max(0, resident("VmHWM") - before))
    del kept


if __name__ == "__main__":
    main(*sys.argv[1:])
