"""Small and read-only disks, for tests that run as root; others skip."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@contextmanager
def _unmounted(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a folder that is a disk of that size (`5m`)."""
    with ExitStack() as stack:

        def make(size: str) -> Path:
            folder = tmp_path / f"disk_{size}"
            folder.mkdir()
            _mount("-t", "tmpfs", "-o", f"size={size}", "lossbench_test", str(folder))
            stack.enter_context(_unmounted(folder))
            return folder

        yield make


@pytest.fixture
def make_read_only() -> Iterator[Callable[[Path], None]]:
    """Makes a folder read-only, also for root."""
    with ExitStack() as stack:

        def make(folder: Path) -> None:
            _mount("--bind", str(folder), str(folder))
            stack.enter_context(_unmounted(folder))
            _mount("-o", "remount,bind,ro", str(folder))

        yield make
