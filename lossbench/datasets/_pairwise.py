"""Published datasets of image and label files in pairs: a dataset only says where they lie and what the ids mean."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets._official import OfficialDataset, grey, paired
from lossbench.datasets._reading import map_ids, read_image, read_mask, same_size
from lossbench.datasets.base import WARNING
from lossbench.errors import DataError, did_you_mean


class PairDataset(OfficialDataset):
    """A subclass calls `_set_up` and says where the images and the labels of a split are."""

    #: The name it is registered by.
    registered: ClassVar[str]
    #: Splits whose labels are public.
    labelled_splits: ClassVar[Sequence[str]] = ("train", "val")
    #: For messages: the ids that a label file may hold, and which of the dataset's files hold them.
    known_ids: ClassVar[str]
    label_files: ClassVar[str]

    def _set_up(self, root: Path, table: NDArray[np.uint8]) -> None:
        """`table`: look-up table from raw id to class, see `id_table`."""
        self.root, self._table = Path(root), table
        self._pairs, self._shown = cache(self._find_pairs), cache(self._images)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root,)

    @abstractmethod
    def _images(self, split: str) -> Mapping[str, Path]:
        """Image files of a split by name, in order. Raises DataError: the folder or the list is not there."""

    @abstractmethod
    def _labels(self, split: str) -> Mapping[str, Path]:
        """Label files of a split by name. Raises DataError: the folder is not there."""

    @abstractmethod
    def _label_place(self, split: str, name: str) -> Path:
        """Where the label of an image belongs."""

    def _ids(self, file: Path) -> NDArray[Any]:
        """Raw ids (H, W) of a label file. Raises DataError."""
        raw = read_mask(file)
        grey(raw, file, self.label_files)
        return raw

    def _image(self, file: Path) -> NDArray[np.uint8]:
        return read_image(file)

    def names(self, split: str) -> tuple[str, ...]:
        """Names of the images of a split, in order. Raises DataError; always for a split without public labels."""
        return tuple(name for name, _, _ in self._pairs(split))

    def files(self, split: str) -> list[Path]:
        """Images and label files of the split, in order. Raises DataError."""
        return [file for _, image, label in self._pairs(split) for file in (image, label)]

    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image (H, W, 3) and target (H, W) with class indices and 255. Raises DataError."""
        _, image_file, label_file = self._pairs(split)[index]
        image, raw = self._image(image_file), self._ids(label_file)
        same_size(image, raw, image_file, label_file)
        return image, map_ids(raw, self._table, label_file, self.known_ids)

    def unlabelled_names(self, split: str) -> tuple[str, ...]:
        """As `names`, for one of `unlabelled_splits`. Raises DataError."""
        self._require(split, self.unlabelled_splits)
        return tuple(self._shown(split))

    def unlabelled_image(self, split: str, index: int) -> NDArray[np.uint8]:
        """Image (H, W, 3) of one of `unlabelled_splits`. Raises DataError."""
        return self._image(self._shown(split)[self.unlabelled_names(split)[index]])

    def check(self) -> list[str]:
        """As the base class, with a warning for labels that belong to no image."""
        problems = super().check()
        for split in self.splits:
            try:
                labels, images = self._labels(split), self._shown(split)
            except DataError:
                continue  # reported by the base class
            if stray := [file for name, file in labels.items() if name not in images]:
                problems.append(f"{WARNING}{split}: {len(stray)} labels without an image, the first: {stray[0]}")
        return problems

    def _find_pairs(self, split: str) -> tuple[tuple[str, Path, Path], ...]:
        if split in self.unlabelled_splits:
            raise DataError(
                f"{self.registered}: '{split}' cannot be scored: its labels are not public",
                hint=f"score val; to write predictions: lossbench predict RUN --split {split}",
            )
        self._require(split, self.labelled_splits)
        images, labels = self._shown(split), self._labels(split)
        if not images:
            raise DataError(f"{self.registered}: '{split}' has no images", hint=self._how())
        missing = next((name for name in images if name not in labels), "")
        place = str(self._label_place(split, missing)) if missing else ""
        paired(images, labels, place.replace("{", "{{").replace("}", "}}"))
        return tuple((name, file, labels[name]) for name, file in images.items())

    def _require(self, split: str, splits: Sequence[str]) -> None:
        """Raises DataError unless `split` is one of `splits`."""
        if split not in splits:
            raise DataError(
                f"{self.registered} has no split '{split}'" if splits else f"no split '{split}' without labels",
                hint=did_you_mean(split, splits) or " or ".join(splits) or None,
            )

    def _base(self, below: Iterable[str], *parts: str) -> Path:
        """The first folder `{root}/{below}` that holds one of `parts`. Raises DataError that names the first part."""
        for folder in (self.root / name for name in below):
            if any((folder / part).exists() for part in parts):
                return folder
        raise self._missing(parts[0])

    def _listed(self, folder: Path, pattern: str, suffix: str = "") -> dict[str, Path]:
        """Files of a folder that match, by stem without `suffix`, sorted; hidden ones left out. Raises DataError."""
        found = sorted(file for file in folder.glob(pattern) if file.name[0] != ".")
        if not found:
            there = f"no {pattern} in {folder}" if folder.is_dir() else f"no folder {folder}"
            raise DataError(f"{self.registered}: {there}", hint=self._how())
        return {file.stem.removesuffix(suffix): file for file in found}

    def _missing(self, what: str) -> DataError:
        return DataError(f"{self.registered}: no {what} in {self.root}", hint=self._how())

    def _how(self) -> str:
        return f"{self.how_to_get}; another place: --data-root or LOSSBENCH_DATA (its sub-folder {self.registered})"


def divide(names: Sequence[str], share: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(train, val) where no split is published: the `share` of names with the smallest SHA-256 is val, rounded, at
    least one; both in the given order. The same names make the same split on every machine."""
    count = max(1, round(share * len(names)))
    val = set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])
    return tuple(name for name in names if name not in val), tuple(name for name in names if name in val)
