"""Finding the record files of a store, and telling which have changed, by one pass over its folders."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import SetupError

#: Of a file: time of its contents, time of its inode, size, inode. Contents cannot change without one of them (except
#: within one tick of the clock: see index.py), for no user can set the second.
STAMP = 4


@dataclass(frozen=True)
class Scan:
    """Files of a folder: `paths` relative to it with forward slashes, in a fixed order, and their `stamps` (n, STAMP)
    int64; zeros where a file could not be asked."""

    paths: list[str]
    stamps: NDArray[np.int64]


def scan(folder: Path) -> Scan:
    """Every visible *.json below `folder` with its stamp. Raises SetupError when a folder cannot be read."""
    paths: list[str] = []
    stamps: list[int] = []
    with collector_paused():
        for entries, prefix in _folders(str(folder), ""):
            paths += [prefix + entry.name for entry in entries]
            for entry in entries:
                try:
                    stat = entry.stat()
                except OSError:  # a link to nowhere, or gone just now: reading it will say so
                    stamps += (0,) * STAMP
                else:
                    stamps += (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino & (2**63 - 1))
    return Scan(paths, np.array(stamps, dtype=np.int64).reshape(-1, STAMP))


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection within: what many small objects without cycles do not need, but pay a fifth more for."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def json_files(folder: Path) -> Iterator[Path]:
    """Every visible *.json below `folder`, sorted, files before subfolders. Half-written files are hidden ones.
    Raises SetupError when a folder cannot be read."""
    return (folder / (prefix + entry.name) for entries, prefix in _folders(str(folder), "") for entry in entries)


def _folders(folder: str, prefix: str) -> Iterator[tuple[list[os.DirEntry[str]], str]]:
    """The sorted record files of each folder, with its path. They can be asked for their `stat` until the next
    folder is taken."""
    files: list[os.DirEntry[str]] = []
    subfolders: list[str] = []
    try:
        with _opened(folder) as place, os.scandir(place) as entries:
            for entry in entries:
                name = entry.name
                if name[0] == ".":
                    continue
                if entry.is_dir():
                    if not entry.is_symlink():
                        subfolders.append(name)
                elif name.endswith(".json"):
                    files.append(entry)
            files.sort(key=_name)
            yield files, prefix
    except FileNotFoundError:
        return
    except OSError as error:
        raise SetupError(f"cannot read {folder}: {error.strerror}", hint="check its permissions") from error
    for name in sorted(subfolders):
        yield from _folders(f"{folder}{os.sep}{name}", f"{prefix}{name}/")


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int | str]:
    """What `os.scandir` takes: a descriptor where it may be one, for then the system need not look up the whole path
    of every file that is asked for its stamp."""
    if os.scandir not in os.supports_fd:
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def walk_order(path: str) -> list[tuple[bool, str]]:
    """Sorts paths as `scan` lists them."""
    *folders, name = path.split("/")
    return [*((True, folder) for folder in folders), (False, name)]


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name
