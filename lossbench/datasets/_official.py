"""What datasets that come as published archives share: known counts and sizes, label ids, the archives themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets.base import WARNING, SegmentationDataset
from lossbench.errors import DataError


@dataclass(frozen=True)
class Archive:
    """A file that a dataset is unpacked from.

    Attributes:
        file: its name, as published.
        holds: what is in it, and its size.
        url: where it may be fetched by anybody; empty when one has to register first.
        md5: checksum in hexadecimal; only an archive that has one is fetched by `lossbench data get`.
        top: the folder it unpacks to.
    """

    file: str
    holds: str
    url: str = ""
    md5: str = ""
    top: str = ""

    @property
    def fetchable(self) -> bool:
        return bool(self.url and self.md5)


class OfficialDataset(SegmentationDataset):
    """A dataset read in the layout of its official archives. All that it adds to the contract is optional: the engine
    asks for it by name and does without where it is missing."""

    #: The files to get, printed by `lossbench data get`.
    archives: ClassVar[Sequence[Archive]] = ()
    #: Datasets in whose folders, beside its own, it looks for its files, too.
    beside: ClassVar[Sequence[str]] = ()
    #: Numbers of images that are known for a split, the official one first. Others are a warning of `check`.
    expected_counts: ClassVar[Mapping[str, Sequence[int]]] = {}
    #: (height, width) when all images have one size.
    expected_size: ClassVar[tuple[int, int] | None] = None
    #: Label id of each class in the dataset's own files where it is not the class index: what its server expects.
    official_ids: Sequence[int] = ()
    #: Splits whose images are public and whose labels are not: nothing to score, but something to predict.
    unlabelled_splits: Sequence[str] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks a record must carry, e.g. which of several published split lists was read. Raises DataError."""
        return ()

    def unlabelled_names(self, split: str) -> Sequence[str]:
        """Names of the images of one of `unlabelled_splits`. Raises DataError."""
        raise DataError(f"no split '{split}' without labels")

    def unlabelled_image(self, split: str, index: int) -> NDArray[np.uint8]:
        """Image (H, W, 3) RGB of one of `unlabelled_splits`. Raises DataError."""
        raise DataError(f"no split '{split}' without labels")

    def check(self) -> list[str]:
        """As the base class, with several images at a time, and warnings for counts and sizes that are not the
        published ones."""
        problems: list[str] = []
        for split in self.splits:
            try:
                count = len(self.names(split))
            except DataError as error:
                problems.append(f"{split}: {error.message}")
                continue
            problems += self._check_images(split, count)
            known = self.expected_counts.get(split, ())
            if known and count not in known:
                published = " or ".join(map(str, known))
                problems.append(f"{WARNING}{split}: {count} images, the published split has {published}")
        return problems

    def _check_images(self, split: str, count: int) -> list[str]:
        problems: list[str] = []
        seen = np.zeros(256, np.int64)
        odd: list[str] = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for index, found in enumerate(pool.map(lambda i: self._labels_of(split, i), range(count))):
                if isinstance(found, DataError):
                    problems.append(f"{split}: {found.message}")
                    continue
                counts, size = found
                seen += counts
                if self.expected_size is not None and size != self.expected_size:
                    odd.append(f"{self.names(split)[index]} is {size[1]}x{size[0]}")
        if odd and self.expected_size is not None:
            height, width = self.expected_size
            problems.append(
                f"{WARNING}{split}: {len(odd)} of {count} images are not {width}x{height} (width x height), "
                f"the first: {odd[0]}"
            )
        return problems + self._rarities(split, seen)

    def _labels_of(self, split: str, index: int) -> tuple[NDArray[np.int64], tuple[int, int]] | DataError:
        """(pixels of each label, (height, width)) of an image, or what is wrong with it."""
        try:
            target = self.load(split, index)[1]
        except DataError as error:
            return error
        height, width = target.shape
        return np.bincount(target.ravel(), minlength=256), (height, width)


def grey(raw: NDArray[np.generic], file: Path, expected: str) -> None:
    """Raises DataError when a mask that must hold ids was read as an RGB picture."""
    if raw.ndim != 2:
        raise DataError(f"{file}: an RGB picture, not class ids", hint=f"expected is {expected}")


def paired(images: Mapping[str, Path], labels: Mapping[str, Path], expected: str) -> None:
    """Raises DataError when an image has no label: how many, and the first. `expected`: where its label should be."""
    missing = [name for name in images if name not in labels]
    if missing:
        more = f" ({len(missing)} of {len(images)} images have none)" if len(missing) > 1 else ""
        raise DataError(f"{images[missing[0]]}: no label {expected.format(name=missing[0])}{more}")
