"""Oxford-IIIT Pet: cats and dogs against background, from the trimaps of 37 breeds.

Source: Parkhi et al., "Cats and dogs", CVPR 2012.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets._official import Archive
from lossbench.datasets._pairwise import PairDataset, divide
from lossbench.datasets._reading import _decode, id_table
from lossbench.datasets._voc import read_list
from lossbench.datasets.base import WARNING
from lossbench.errors import DataError
from lossbench.registry import register_dataset

#: Ids of a trimap.
FOREGROUND, BACKGROUND, BORDER = 1, 2, 3
#: Share of the official trainval that is val.
VAL_SHARE = 0.2
#: Images of the official trainval.
TRAINVAL = 3680
_BELOW = ("", "oxford-iiit-pet")
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"


@register_dataset("oxford_pet")
class OxfordPet(PairDataset):
    """Oxford-IIIT Pet: pet against background, 3680 images (2944/736) and 3669 test images of many sizes.

    `{root}/images/*.jpg`, `{root}/annotations/trimaps/*.png` and `{root}/annotations/{trainval,test}.txt`, or below
    `oxford-iiit-pet` as torchvision leaves them. The official lists are the splits `trainval` and `test`. Since there
    is no val, and nobody should tune on test, trainval is divided: val is the fifth of it whose names have the smallest
    SHA-256, train the rest. For the official protocol set `train_split: trainval` and `eval_split: test`.

    Traps:
        - A trimap holds 1 for pet, 2 for background, 3 for the border between them and for what is "not classified":
          pet is not the largest id, and there is no 0. What the border counts as moves every score; published
          numbers differ in it.
        - Some `*.jpg` are PNG or GIF inside, grey, with a palette or an alpha channel, and some JPEGs have bytes too
          many: read here as RGB, without a warning. What is cut off is an error.
        - The lists are sorted by breed: their first four fifths are not all breeds.
        - The trimap folder has hidden `._*.png` that are no images, `images` has `.mat` files, and the lists leave some
          images out: only the lists say what belongs.

    Args:
        border: what the trimaps' border is: ignored, part of the pet, or a third class.
    """

    licence: ClassVar[str] = "CC BY-SA 4.0; the images' copyright stays with their owners"
    how_to_get: ClassVar[str] = (
        "`lossbench data get oxford_pet` downloads images.tar.gz and annotations.tar.gz (0.8 GB, no registration) and "
        "unpacks them there"
    )
    homepage: ClassVar[str] = "https://www.robots.ox.ac.uk/~vgg/data/pets/"
    archives: ClassVar[Sequence[Archive]] = (
        Archive(
            "images.tar.gz",
            "images, 0.8 GB",
            url=f"{_OXFORD}/images.tar.gz",
            md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
            top="images",
        ),
        Archive(
            "annotations.tar.gz",
            "trimaps and lists, 19 MB",
            url=f"{_OXFORD}/annotations.tar.gz",
            md5="95a8c909bbe2e81eed6a22bccdf3f68f",
            top="annotations",
        ),
    )
    expected_counts: ClassVar[Mapping[str, Sequence[int]]] = {"train": (2944,), "val": (736,), "test": (3669,)}
    registered: ClassVar[str] = "oxford_pet"
    labelled_splits: ClassVar[Sequence[str]] = ("train", "val", "test", "trainval")
    known_ids: ClassVar[str] = "1 = pet, 2 = background, 3 = border"
    label_files: ClassVar[str] = "annotations/trimaps/*.png"
    splits = ("train", "val", "test")

    def __init__(self, root: Path, *, border: Literal["ignored", "foreground", "class"] = "ignored") -> None:
        self.border = border
        self.class_names = ("background", "pet", "border")[: 3 if border == "class" else 2]
        self.colors = ((0, 0, 0), (230, 120, 30), (250, 230, 90))[: len(self.class_names)]
        ids = [[BACKGROUND], [FOREGROUND, BORDER] if border == "foreground" else [FOREGROUND]]
        self._set_up(root, id_table([*ids, *([[BORDER]] if border == "class" else [])], [BORDER]))
        self._listed_names = cache(self._read_names)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.root, self.border)

    def fingerprint(self, split: str) -> str:
        """As the base class, over what the border is, too: the files are the same."""
        return hashlib.sha256(f"{super().fingerprint(split)}{self.border}".encode()).hexdigest()[:12]

    def check(self) -> list[str]:
        """As the base class, with a warning when the official trainval has another number of images."""
        problems = super().check()
        try:
            count = len(self._listed_names("trainval"))
        except DataError:
            return problems  # reported by the base class
        if count != TRAINVAL:
            problems.append(f"{WARNING}trainval.txt: {count} images, the published list has {TRAINVAL}")
        return problems

    def _read_names(self, split: str) -> tuple[str, ...]:
        self._require(split, self.labelled_splits)
        if split in ("train", "val"):
            return divide(self._listed_names("trainval"), VAL_SHARE)[split == "val"]
        file = self._base(_BELOW, "annotations", "images") / "annotations" / f"{split}.txt"
        if not file.is_file():
            raise DataError(f"{self.registered}: no {file}", hint=self._how())
        return read_list(file)

    def _images(self, split: str) -> Mapping[str, Path]:
        names = self._listed_names(split)
        folder = self._base(_BELOW, "annotations", "images") / "images"
        files = {name: folder / f"{name}.jpg" for name in names}
        if gone := [file for file in files.values() if not file.is_file()]:
            raise DataError(
                f"{self.registered}: {split} has {gone[0].stem}, but there is no {gone[0]} ({len(gone)} are missing)",
                hint=self._how(),
            )
        return files

    def _labels(self, split: str) -> Mapping[str, Path]:
        places = {name: self._label_place(split, name) for name in self._listed_names(split)}
        return {name: file for name, file in places.items() if file.is_file()}

    def _label_place(self, split: str, name: str) -> Path:
        return self._base(_BELOW, "annotations", "images") / "annotations" / "trimaps" / f"{name}.png"

    def _image(self, file: Path) -> NDArray[np.uint8]:
        picture = _decode(file)
        if "transparency" in picture.info:  # by way of RGBA, where Pillow has nothing to warn of
            picture = picture.convert("RGBA")
        return np.asarray(picture.convert("RGB"))


def _rebuild(root: Path, border: Literal["ignored", "foreground", "class"]) -> OxfordPet:
    return OxfordPet(root, border=border)
