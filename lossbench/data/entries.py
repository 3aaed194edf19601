"""Where the decoded splits lie on disk, what is there, and how failures of that disk are told.

An entry is a folder `<dataset>-<split>-<fingerprint>-v<layout>` of three files: `images.bin` (all images one after
the other, H x W x 3), `targets.bin` (H x W) and `header.json` (names, sizes, class counts, checksum). Height, width
and order are in the header only, so images of any sizes mix.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import SetupError

#: Bumped when the files' layout changes: old entries are then simply not found.
LAYOUT = 2
IMAGES, TARGETS, HEADER = "images.bin", "targets.bin", "header.json"
BUILDING = ".building-"


def dataset_name(dataset: SegmentationDataset) -> str:
    """The name a dataset is registered by, else its class's name."""
    marks = type(dataset).__dict__.get("__lossbench__", ())
    return str(marks[0][1]) if marks else type(dataset).__name__.lower()


def entry_folder(dataset: SegmentationDataset, split: str, cache_root: Path, *, fingerprint: str | None = None) -> Path:
    """Where the cache of a split lies, built or not. Raises DataError when the split's files are not there."""
    words = (dataset_name(dataset), split, fingerprint or dataset.fingerprint(split), f"v{LAYOUT}")
    return cache_root / "-".join(re.sub(r"[^A-Za-z0-9_.]", "_", word) for word in words)


def checksum(header: Mapping[str, Any]) -> str:
    """SHA-256 of a header's canonical JSON without its own checksum: sizes and order say where every pixel lies."""
    plain = {key: value for key, value in header.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def megabytes(size: float) -> str:
    """`3.2 GB`, `45.0 MB` (powers of ten)."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def unwritable(folder: Path, error: OSError) -> SetupError:
    """A failure to write under `folder`, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder).free
        message = f"the disk ran full while decoding images into {folder} ({megabytes(free)} free)"
    else:
        message = f"cannot write the cache folder {folder} ({error.strerror or error})"
    return SetupError(message, hint="set LOSSBENCH_CACHE to a writable folder with room")


@dataclass(frozen=True)
class CacheEntry:
    """A folder of the cache and the bytes it takes; `complete` is False for one that a killed process left, or that
    an older layout left behind."""

    folder: Path
    bytes: int
    complete: bool

    def remove(self) -> None:
        """Delete it. Raises SetupError."""
        try:
            shutil.rmtree(self.folder)
        except OSError as error:
            raise unwritable(self.folder.parent, error) from None


def cache_entries(cache_root: Path) -> list[CacheEntry]:
    """Every entry under `cache_root`, sorted by name; empty when there is no such folder."""
    if not cache_root.is_dir():
        return []
    entries = []
    for folder in sorted(cache_root.iterdir()):
        built = (folder / HEADER).is_file() and not folder.name.startswith(".")
        if folder.is_dir() and (built or BUILDING in folder.name):
            size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
            entries.append(CacheEntry(folder, size, built and folder.name.endswith(f"-v{LAYOUT}")))
    return entries
