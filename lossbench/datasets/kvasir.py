"""Kvasir-SEG: polyps in colonoscopy images, a binary task with a rare foreground.

Source: Jha et al., "Kvasir-SEG: A segmented polyp dataset", MMM 2020.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets._official import Archive
from lossbench.datasets._pairwise import PairDataset, divide
from lossbench.datasets._reading import id_table, read_image
from lossbench.datasets._voc import read_list
from lossbench.datasets.base import WARNING
from lossbench.errors import DataError
from lossbench.registry import register_dataset

#: A mask pixel is polyp from this grey on: masks are JPEG, whose 0 and 255 come back with noise.
THRESHOLD = 128
#: Share of val where no lists are there: as many images as the published lists have, 120 of 1000.
VAL_SHARE = 0.12
#: A mask with a larger share of pixels that are coloured, or of middling grey, is no mask.
_NO_MASK = 0.2
_BELOW = ("", "Kvasir-SEG", "kvasir-seg/Kvasir-SEG")
_SPLITS = ("train", "val")


@register_dataset("kvasir")
class Kvasir(PairDataset):
    """Kvasir-SEG: polyp against background, 1000 images of many sizes, 880/120.

    `{root}/images/*.jpg` and `{root}/masks/*.jpg` with the same names, or below `Kvasir-SEG` as the archive unpacks.
    The archive has no split. With `train.txt` and `val.txt` there (or in `kvasir-seg-train-val`; one name a line), such
    as the 880/120 lists of MediaEval Medico 2020, these are the splits; else val is the 120 of 1000 images whose names
    have the smallest SHA-256. The record notes which.

    Traps:
        - Masks are JPEG: greys near 0 and near 255, in three channels. Polyp is a grey of 128 or more. To read the file
          as ids, or to take what is not 0 as polyp, adds a fringe of noise to every polyp.
        - Papers use many splits (880/120, 800/100/100, random ones), and files called train.txt of many origins go
          round: compare numbers of one split only. The note holds a checksum of the lists.
        - Frames of one patient look alike, and nothing says who is who: train and val may share a patient.
        - Sizes run from 332x487 to 1920x1072; some images have a green inset of the endoscope's position.
    """

    licence: ClassVar[str] = "research and education only"
    how_to_get: ClassVar[str] = (
        "download datasets.simula.no/downloads/kvasir-seg.zip (46 MB) and unpack it there, which makes Kvasir-SEG; "
        "optional: train.txt and val.txt of github.com/DebeshJha/2020-MediaEval-Medico-polyp-segmentation beside images"
    )
    homepage: ClassVar[str] = "https://datasets.simula.no/kvasir-seg/"
    archives: ClassVar[Sequence[Archive]] = (
        Archive(
            "kvasir-seg.zip",
            "images and masks, 46 MB",
            url="https://datasets.simula.no/downloads/kvasir-seg.zip",
            top="Kvasir-SEG",
        ),
    )
    expected_counts: ClassVar[Mapping[str, Sequence[int]]] = {"train": (880,), "val": (120,)}
    registered: ClassVar[str] = "kvasir"
    known_ids: ClassVar[str] = "greys"
    label_files: ClassVar[str] = "masks/*.jpg"

    def __init__(self, root: Path) -> None:
        self.class_names = ("background", "polyp")
        self.colors = ((0, 0, 0), (255, 255, 255))
        self._set_up(root, id_table([[0], [1]], []))

    @property
    def notes(self) -> tuple[str, ...]:
        """Which split was read."""
        if not self._lists:
            return (f"split: by hash of the name, {100 * VAL_SHARE:.0f} % to val (no train.txt and val.txt there)",)
        names = "\n".join(name for split in _SPLITS for name in sorted(self._split[split]))
        return (f"split: train.txt and val.txt, checksum {hashlib.sha256(names.encode()).hexdigest()[:8]}",)

    def check(self) -> list[str]:
        """As the base class, with a warning for images that no list has."""
        problems = super().check()
        try:
            unused = set(self._all) - {name for names in self._split.values() for name in names}
        except DataError:
            return problems  # reported by the base class
        if unused:
            problems.append(f"{WARNING}{len(unused)} of {len(self._all)} images are in neither train.txt nor val.txt")
        return problems

    @cached_property
    def _folder(self) -> Path:
        return self._base(_BELOW, "images", "masks")

    @cached_property
    def _all(self) -> dict[str, Path]:
        return self._listed(self._folder / "images", "*.jpg")

    @cached_property
    def _masks(self) -> dict[str, Path]:
        return self._listed(self._folder / "masks", "*.jpg")

    @cached_property
    def _lists(self) -> dict[str, Path]:
        """The list files by split, none or both. Raises DataError when there is one."""
        for folder in (self._folder, self._folder / "kvasir-seg-train-val", self.root):
            found = {split: file for split in _SPLITS if (file := folder / f"{split}.txt").is_file()}
            if len(found) == 1:
                (there,) = found.values()
                other = "val.txt" if "train" in found else "train.txt"
                raise DataError(
                    f"kvasir: {there} is there, but no {other}", hint="add it, or remove both: then by hash"
                )
            if found:
                return found
        return {}

    @cached_property
    def _split(self) -> dict[str, tuple[str, ...]]:
        """Names by split. Raises DataError: a list with a name that is no image, or that is in both."""
        if not self._lists:
            return dict(zip(_SPLITS, divide(tuple(self._all), VAL_SHARE), strict=True))
        # PureWindowsPath splits at both kinds of slash.
        names = {s: tuple(PureWindowsPath(line).stem for line in read_list(f)) for s, f in self._lists.items()}
        for split, listed in names.items():
            if gone := [name for name in listed if name not in self._all]:
                raise DataError(f"{self._lists[split]} lists {gone[0]}, but there is no {gone[0]}.jpg in images")
        if both := sorted(set(names["train"]) & set(names["val"])):
            raise DataError(
                f"kvasir: {both[0]} is in train.txt and in val.txt ({len(both)} such names)",
                hint="a model would be scored on what it was trained on: fix the lists",
            )
        return names

    def _images(self, split: str) -> Mapping[str, Path]:
        self._require(split, self.labelled_splits)
        return {name: self._all[name] for name in self._split[split]}

    def _labels(self, split: str) -> Mapping[str, Path]:
        wanted = set(self._images(split))
        if split == "train":  # masks without an image belong to no split: told once
            wanted |= set(self._masks) - set(self._all)
        return {name: file for name, file in self._masks.items() if name in wanted}

    def _label_place(self, split: str, name: str) -> Path:
        return self._folder / "masks" / f"{name}.jpg"

    def _ids(self, file: Path) -> NDArray[Any]:
        rgb = read_image(file).astype(np.int16)
        grey = rgb.mean(axis=2)
        coloured = float((rgb.max(axis=2) - rgb.min(axis=2) > 64).mean())
        middling = float(((grey > 64) & (grey < 192)).mean())
        if max(coloured, middling) > _NO_MASK:
            what = "coloured" if coloured > middling else "neither dark nor bright"
            raise DataError(
                f"{file}: {100 * max(coloured, middling):.0f} % of the pixels are {what}: not a mask of 0 and 255",
                hint="unpack masks/ of the archive again",
            )
        polyp: NDArray[np.uint8] = (grey >= THRESHOLD).astype(np.uint8)
        return polyp
