"""The contract of a dataset: decoded images and targets by index, and everything known about them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import DataError

#: Label of pixels that count nowhere: not in the loss, not in the metrics.
IGNORE_INDEX = 255
#: How a problem of `check` begins when the data can be used all the same (an odd number of images, say).
WARNING = "warning: "


class SegmentationDataset(ABC):
    """Yields `(image uint8 HxWx3 RGB, target uint8 HxW)` per index of a split. Knows nothing of augmentation.

    Construction is cheap and touches no image. `load` is called from several threads at once. Errors are `DataError`s
    that name the file.
    """

    #: One line each; printed by `lossbench show` and `lossbench data`.
    licence: ClassVar[str] = ""
    how_to_get: ClassVar[str] = ""
    homepage: ClassVar[str] = ""
    #: Bumped by hand whenever the same files decode to other pixels or labels, so that caches are rebuilt.
    version: ClassVar[int] = 1

    #: Name for tables; empty: the name it is registered by.
    title: str = ""
    class_names: Sequence[str]
    #: RGB, 0..255, one per class.
    colors: Sequence[tuple[int, int, int]]
    ignore_index: int = IGNORE_INDEX
    splits: Sequence[str] = ("train", "val")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @abstractmethod
    def names(self, split: str) -> Sequence[str]:
        """Stable identifiers of the images of a split, in order; their number is the split's length.
        Raises DataError when the split is not there."""

    @abstractmethod
    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Decode one pair: image (H, W, 3) RGB and target (H, W) with 0..num_classes-1 or `ignore_index`.
        Raises DataError naming the file: unreadable, sizes differ, id out of range."""

    @abstractmethod
    def files(self, split: str) -> Sequence[Path]:
        """Every file the split reads (empty for a generated one): what the cache key is made of.
        Raises DataError when the split is not there."""

    def fingerprint(self, split: str) -> str:
        """12 hex digits over `version` and the names, sizes and times of the files; a dataset whose parameters
        change what is decoded overrides it. Raises DataError when a file is gone."""
        digest = hashlib.sha256(f"{self.version}\n".encode())
        for file in self.files(split):
            try:
                stat = file.stat()
            except OSError as error:
                raise DataError(f"{file}: cannot be read ({error.strerror})") from None
            digest.update(f"{file.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:12]

    def check(self) -> list[str]:
        """Problems found by looking at every file: missing pairs, odd counts, sizes, ids. Empty when all is well.
        Those that begin with `WARNING` leave the data usable."""
        problems: list[str] = []
        for split in self.splits:
            try:
                count = len(self.names(split))
            except DataError as error:
                problems.append(f"{split}: {error.message}")
                continue
            seen = np.zeros(256, np.int64)
            for index in range(count):
                try:
                    seen += np.bincount(self.load(split, index)[1].ravel(), minlength=256)
                except DataError as error:
                    problems.append(f"{split}: {error.message}")
            problems += self._rarities(split, seen)
        return problems

    def _rarities(self, split: str, seen: NDArray[np.int64]) -> list[str]:
        """Warnings for classes without a pixel, and for a split that is mostly ignored."""
        absent = [name for name, pixels in zip(self.class_names, seen, strict=False) if not pixels]
        lines = [f"{WARNING}{split}: no pixel of {', '.join(absent)}"] if absent and seen.any() else []
        ignored = seen[self.ignore_index] / max(1, seen.sum())
        if ignored > 0.5:
            lines.append(
                f"{WARNING}{split}: {100 * ignored:.0f} % of the pixels are ignored (label {self.ignore_index}); "
                "if that is a class of yours, give it an id among the classes"
            )
        return lines
