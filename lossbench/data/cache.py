"""Decode once: a split as flat uint8 files on disk, memory-mapped read-only by every process that trains on it.

An entry is a folder `<dataset>-<split>-<fingerprint>-v<layout>` of three files: `images.bin` (all images one after
the other, H x W x 3), `targets.bin` (H x W) and `header.json` (names, sizes, class counts). Height, width and order
are in the header only, so images of any sizes mix. Every label is checked while building: training never sees a
label that is neither a class nor the ignored one.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import DataError, SetupError

#: Bumped when the files' layout changes: old entries are then simply not found.
LAYOUT = 1
#: Share kept free beside the estimate, and bytes of a header per image.
_SLACK, _HEADER_BYTES = 1.02, 128

Progress = Callable[[int, int], None]
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class DamagedCache(Exception):
    """An entry whose files do not agree with its header. Never leaves this module: the entry is rebuilt."""


class CachedSplit:
    """A decoded split, read through memory maps. Cheap to open and to pickle (the folder's path goes, not the data).

    Raises DamagedCache when the files do not agree with the header.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            header = json.loads((folder / "header.json").read_bytes())
            self.names: tuple[str, ...] = tuple(header["names"])
            self.fingerprint: str = header["fingerprint"]
            self.class_names: tuple[str, ...] = tuple(header["class_names"])
            self.ignore_index: int = header["ignore_index"]
            #: Labelled pixels of each class over the split, int64 (C,).
            self.class_counts: NDArray[np.int64] = np.array(header["class_counts"], np.int64)
            #: Height and width of each image, int64 (N, 2).
            self.sizes: NDArray[np.int64] = np.array(header["sizes"], np.int64).reshape(-1, 2)
            bytes_on_disk = [(folder / name).stat().st_size for name in ("images.bin", "targets.bin")]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedCache(f"{folder}: {error}") from None
        # Pixels before each image: where it begins in targets.bin, and a third of where it begins in images.bin.
        self._offsets = np.concatenate([[0], np.cumsum(self.sizes.prod(axis=1))])
        pixels = int(self._offsets[-1])
        if bytes_on_disk != [3 * pixels, pixels] or len(self.sizes) != len(self.names) or not self.names:
            raise DamagedCache(f"{folder}: {bytes_on_disk} bytes for {pixels} pixels in {len(self.names)} images")

    def __reduce__(self) -> tuple[type[CachedSplit], tuple[Path]]:
        return type(self), (self.folder,)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @cached_property
    def _images(self) -> NDArray[np.uint8]:
        return np.memmap(self.folder / "images.bin", np.uint8, mode="r")

    @cached_property
    def _targets(self) -> NDArray[np.uint8]:
        return np.memmap(self.folder / "targets.bin", np.uint8, mode="r")

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of an image."""
        height, width = self.sizes[index].tolist()
        return height, width

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read-only view of an image, uint8 (H, W, 3) RGB; slicing it reads only that part from disk."""
        start, stop = self._span(index)
        return self._images[3 * start : 3 * stop].reshape(*self.size(index), 3)

    def target(self, index: int) -> NDArray[np.uint8]:
        """Read-only view of a target, uint8 (H, W): 0..C-1 or `ignore_index`."""
        start, stop = self._span(index)
        return self._targets[start:stop].reshape(self.size(index))

    def _span(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return int(self._offsets[index]), int(self._offsets[index + 1])


def dataset_name(dataset: SegmentationDataset) -> str:
    """The name a dataset is registered by, else its class's name."""
    marks = type(dataset).__dict__.get("__lossbench__", ())
    return str(marks[0][1]) if marks else type(dataset).__name__.lower()


def entry_folder(dataset: SegmentationDataset, split: str, cache_root: Path, *, fingerprint: str | None = None) -> Path:
    """Where the cache of a split lies, built or not. Raises DataError when the split's files are not there."""
    words = (dataset_name(dataset), split, fingerprint or dataset.fingerprint(split), f"v{LAYOUT}")
    return cache_root / "-".join(re.sub(r"[^A-Za-z0-9_.]", "_", word) for word in words)


def open_split(
    dataset: SegmentationDataset, split: str, *, cache_root: Path, progress: Progress | None = None
) -> CachedSplit:
    """The decoded split: from the cache, or built into it first. Several processes may ask at once: one builds.

    Args:
        dataset: decodes the images when there is no entry yet, or a damaged one.
        split: one of its splits.
        cache_root: created when missing.
        progress: called with (images done, images in all) while building.

    Raises:
        DataError: the split is missing, or a file or label in it is bad (names the file).
        SetupError: the cache folder is not writable or its disk too full (says how much is needed).
    """
    fingerprint = dataset.fingerprint(split)
    folder = entry_folder(dataset, split, cache_root, fingerprint=fingerprint)
    try:
        return CachedSplit(folder)
    except DamagedCache:
        pass  # most often: not built yet
    try:
        cache_root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache_root / f".{folder.name}.lock")
        lock.acquire()
    except OSError as error:
        raise _unwritable(cache_root, error) from None
    try:
        try:
            return CachedSplit(folder)  # another process built it while we waited
        except DamagedCache:
            _build(dataset, split, folder, fingerprint, progress)
    finally:
        lock.release()
    return CachedSplit(folder)


def _build(dataset: SegmentationDataset, split: str, folder: Path, fingerprint: str, progress: Progress | None) -> None:
    """Build an entry beside its place and move it there. The caller holds the entry's lock."""
    prefix = f".{folder.name}.building-"
    for stale in folder.parent.glob(f"{prefix}*"):  # of a process that was killed: we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    names = dataset.names(split)
    if not names:
        raise DataError(f"{dataset_name(dataset)}: split '{split}' holds no image")
    pairs = _decoded(dataset, split, len(names))
    first = next(pairs)
    _check_space(folder.parent, first, len(names))
    try:
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder.parent, error) from None
    try:
        sizes, counts = [], np.zeros(dataset.num_classes, np.int64)
        with _create(temporary / "images.bin") as images, _create(temporary / "targets.bin") as targets:
            for index, (image, target) in enumerate(_chain(first, pairs)):
                images.write(np.ascontiguousarray(image).data)
                targets.write(np.ascontiguousarray(target).data)
                sizes.append(list(target.shape))
                counts += np.bincount(target.ravel(), minlength=256)[: len(counts)]
                if progress is not None:
                    progress(index + 1, len(names))
        header = {
            "layout": LAYOUT,
            "dataset": dataset_name(dataset),
            "split": split,
            "fingerprint": fingerprint,
            "class_names": list(dataset.class_names),
            "ignore_index": dataset.ignore_index,
            "class_counts": counts.tolist(),
            "names": list(names),
            "sizes": sizes,
        }
        with _create(temporary / "header.json") as file:
            file.write(json.dumps(header).encode())
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        temporary.chmod(0o755)  # mkdtemp makes it private; a cache may be shared by a group
        temporary.rename(folder)
    except OSError as error:  # of writing: `_load` turns those of reading into DataErrors
        shutil.rmtree(temporary, ignore_errors=True)
        raise _unwritable(folder.parent, error) from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _chain(first: Pair, rest: Iterator[Pair]) -> Iterator[Pair]:
    yield first
    yield from rest


def _decoded(dataset: SegmentationDataset, split: str, count: int) -> Iterator[Pair]:
    """Checked pairs in order, decoded a few ahead by threads (decoders release the interpreter lock)."""
    workers = min(8, os.cpu_count() or 1, count)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[Future[Pair]] = deque()
    try:
        submitted = 0
        for _ in range(count):
            while submitted < count and len(pending) < 2 * workers:
                pending.append(pool.submit(_load, dataset, split, submitted))
                submitted += 1
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _load(dataset: SegmentationDataset, split: str, index: int) -> Pair:
    def where() -> str:
        return f"{dataset_name(dataset)}: {split} image '{dataset.names(split)[index]}'"

    try:
        image, target = dataset.load(split, index)
    except OSError as error:
        raise DataError(f"{where()} cannot be read ({error})") from error
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"{where()} must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if target.dtype != np.uint8 or target.shape != image.shape[:2]:
        raise DataError(f"{where()}: target must be uint8 {image.shape[:2]}, got {target.dtype} {target.shape}")
    bad = (target >= dataset.num_classes) & (target != dataset.ignore_index)
    if bad.any():
        ids = ", ".join(map(str, np.unique(target[bad])[:8].tolist()))
        raise DataError(
            f"{where()}: id {ids} out of range in {int(bad.sum())} of {bad.size} pixels "
            f"({dataset.num_classes} classes, {dataset.ignore_index} is ignored)"
        )
    return image, target


# --- disk ---


def _check_space(folder: Path, first: Pair, count: int) -> None:
    needed = int(_SLACK * count * (first[0].nbytes + first[1].nbytes + _HEADER_BYTES))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SetupError(
            f"the decoded images need {_mb(needed)}, {folder} has {_mb(free)} free",
            hint="set LOSSBENCH_CACHE to a folder on a larger disk, or run `lossbench clean`",
        )


def _mb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _unwritable(folder: Path, error: OSError) -> SetupError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder).free
        message = f"the disk ran full while decoding images into {folder} ({_mb(free)} free)"
    else:
        message = f"cannot write the cache folder {folder} ({error.strerror or error})"
    return SetupError(message, hint="set LOSSBENCH_CACHE to a writable folder with room")


def _create(file: Path) -> BinaryIO:
    return file.open("wb")


# --- what is there (for `lossbench clean`) ---


@dataclass(frozen=True)
class CacheEntry:
    """A folder of the cache and the bytes it takes; `complete` is False for one that a killed process left."""

    folder: Path
    bytes: int
    complete: bool

    def remove(self) -> None:
        """Delete it. Raises SetupError."""
        try:
            shutil.rmtree(self.folder)
        except OSError as error:
            raise _unwritable(self.folder.parent, error) from None


def cache_entries(cache_root: Path) -> list[CacheEntry]:
    """Everything this module has put under `cache_root`, sorted by name; empty when there is no such folder."""
    if not cache_root.is_dir():
        return []
    entries = []
    for folder in sorted(cache_root.iterdir()):
        complete = (folder / "header.json").is_file() and not folder.name.startswith(".")
        if folder.is_dir() and (complete or ".building-" in folder.name):
            size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
            entries.append(CacheEntry(folder, size, complete))
    return entries
