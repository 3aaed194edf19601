"""What lies in a folder of records: the files to verify with their stamps, and what should not be there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lossbench.scan import STAMP, collector_paused
from lossbench.verification.problems import Problem

#: Folders below `records`: dataset and backbone. Deeper ones are not entered.
_DEEPEST = 2
_NO_STAMP = (0,) * STAMP


@dataclass
class Tree:
    """Paths of record files below the folder, with forward slashes and sorted, and the stamps of each and of its counts
    (n, 2 * STAMP) as in scan.py; zeros where there is none or it could not be asked."""

    paths: list[str] = field(default_factory=list)
    stamps: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2 * STAMP), dtype=np.int64))
    problems: list[Problem] = field(default_factory=list)


def look(folder: str) -> Tree:
    """Everything below a folder of records. Links are not followed; nothing is opened."""
    tree = Tree()
    stamps: list[int] = []
    with collector_paused():
        _walk(folder, "", 0, tree, stamps)
    tree.stamps = np.array(stamps, dtype=np.int64).reshape(-1, 2 * STAMP)
    return tree


def _walk(folder: str, prefix: str, depth: int, tree: Tree, stamps: list[int]) -> None:
    def wrong(name: str, message: str, warning: bool = False) -> None:
        tree.problems.append(Problem("file", f"records/{prefix}{name}", message, warning))

    found: dict[str, tuple[int, ...]] = {}
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                try:
                    if entry.is_symlink():
                        wrong(name, "a symbolic link")
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                    elif not entry.is_file(follow_symlinks=False):
                        wrong(name, "no regular file")
                    elif name.startswith("."):
                        wrong(name, "a hidden file: of an editor, or of a write that was cut off", warning=True)
                    elif name.endswith((".json", ".npz")):
                        stat = entry.stat(follow_symlinks=False)
                        found[name] = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino & (2**63 - 1))
                    else:
                        wrong(name, "neither a record (.json) nor its counts (.npz)")
                except OSError as error:
                    wrong(name, f"cannot be asked ({error.strerror or error})")
    except OSError as error:
        wrong("", f"the folder cannot be read ({error.strerror or error})")
        return
    for name in sorted(found):
        stem, _, kind = name.rpartition(".")
        if kind == "json":
            tree.paths.append(prefix + name)
            stamps += found[name]
            stamps += found.get(f"{stem}.npz", _NO_STAMP)
        elif f"{stem}.json" not in found:
            wrong(name, "per-image counts of no record")
    for name in sorted(folders):
        if depth == _DEEPEST:
            wrong(f"{name}/", "too deep a folder: records lie in records/<dataset>/<backbone>/")
        else:
            _walk(f"{folder}{os.sep}{name}", f"{prefix}{name}/", depth + 1, tree, stamps)
