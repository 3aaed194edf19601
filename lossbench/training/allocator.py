"""Keep the C library from handing large tensors back to the system after every use."""

from __future__ import annotations

import ctypes
import platform

#: Options of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_memory() -> bool:
    """Let glibc serve the main thread's memory from the heap, and keep what is freed for the next tensor.

    By default a tensor above the mmap threshold (at most 32 MiB) is mapped, zeroed page by page by the kernel, and
    unmapped again, every time: a training step on a CPU then takes page faults by the ten thousand.

    Returns:
        Whether it was done; False where the C library is another.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
