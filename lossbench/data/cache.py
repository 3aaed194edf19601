"""Decode once: a split as flat uint8 files on disk, memory-mapped read-only by every process that trains on it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lossbench.data.build import Progress, build
from lossbench.data.entries import HEADER, IMAGES, TARGETS, checksum, entry_folder, unwritable
from lossbench.datasets.base import SegmentationDataset

#: A file system that knows no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class DamagedCache(Exception):
    """An entry whose files do not agree with its header. Never leaves this module: the entry is rebuilt."""


class CachedSplit:
    """A decoded split, read through memory maps. Cheap to open and to pickle (the folder's path goes, not the data).

    Raises DamagedCache when the files do not agree with the header.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            header = json.loads((folder / HEADER).read_bytes())
            if header["checksum"] != checksum(header):
                raise ValueError("the header does not agree with its checksum")
            self.names: tuple[str, ...] = tuple(header["names"])
            self.fingerprint: str = header["fingerprint"]
            self.class_names: tuple[str, ...] = tuple(header["class_names"])
            self.ignore_index: int = header["ignore_index"]
            #: Labelled pixels of each class over the split, int64 (C,).
            self.class_counts: NDArray[np.int64] = np.array(header["class_counts"], np.int64)
            #: Height and width of each image, int64 (N, 2).
            self.sizes: NDArray[np.int64] = np.array(header["sizes"], np.int64).reshape(-1, 2)
            bytes_on_disk = [(folder / name).stat().st_size for name in (IMAGES, TARGETS)]
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
        return _mapped(self.folder / IMAGES)

    @cached_property
    def _targets(self) -> NDArray[np.uint8]:
        return _mapped(self.folder / TARGETS)

    def hold(self) -> CachedSplit:
        """Map the files now and return this split: mapped they stay readable, even if the cache is deleted."""
        _ = self._images, self._targets
        return self

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


def _mapped(file: Path) -> NDArray[np.uint8]:
    """The bytes of a file, mapped: as a plain array, for every view of a np.memmap costs microseconds in Python."""
    return np.memmap(file, np.uint8, mode="r").view(np.ndarray)


def is_cached(dataset: SegmentationDataset, split: str, cache_root: Path) -> bool:
    """Whether `open_split` would find a sound entry. Raises DataError when the split's files are not there."""
    return decoded_split(dataset, split, cache_root) is not None


def decoded_split(dataset: SegmentationDataset, split: str, cache_root: Path) -> CachedSplit | None:
    """The split if it is decoded already. Raises DataError when its files are not there."""
    return _opened(entry_folder(dataset, split, cache_root))


def _opened(folder: Path) -> CachedSplit | None:
    try:
        return CachedSplit(folder)
    except DamagedCache:
        return None


def _is_sound(folder: Path) -> bool:
    return _opened(folder) is not None


def open_split(
    dataset: SegmentationDataset,
    split: str,
    *,
    cache_root: Path,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> CachedSplit:
    """The decoded split: from the cache, or built into it first. Several processes may ask at once: one builds.

    Args:
        dataset: decodes the images when there is no entry yet, or a damaged one.
        split: one of its splits.
        cache_root: created when missing.
        progress: called with (images done, images in all) while building.
        say: told in a sentence what takes long or went wrong: another process builds, an entry is damaged.

    Raises:
        DataError: the split is missing, or a file or label in it is bad (names the file).
        SetupError: the cache folder is not writable or its disk too full (says how much is needed).
    """
    fingerprint = dataset.fingerprint(split)
    folder = entry_folder(dataset, split, cache_root, fingerprint=fingerprint)
    try:
        return CachedSplit(folder)
    except DamagedCache as error:
        if folder.exists():
            say(f"a damaged cache is built anew: {error}")
    try:
        cache_root.mkdir(parents=True, exist_ok=True)
        # It spares work, no more: on a folder that machines share it may hold on one machine only, or not at all.
        lock = FileLock(cache_root / f".{folder.name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            say(f"another process is decoding {folder.name}: waiting for it")
            lock.acquire()
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise unwritable(cache_root, error) from None
    try:
        if not _is_sound(folder):  # else another process built it while we waited
            build(dataset, split, folder, fingerprint, progress, is_sound=_is_sound)
    finally:
        lock.release()
    return CachedSplit(folder)
