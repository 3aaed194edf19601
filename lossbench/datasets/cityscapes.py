"""Cityscapes, fine annotations: 19 evaluated classes at 2048x1024, read from the official `labelIds` files.

Source: Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets._official import Archive, OfficialDataset, grey, paired
from lossbench.datasets._reading import id_table, map_ids, read_image, read_mask, same_size
from lossbench.errors import DataError, did_you_mean
from lossbench.registry import register_dataset

#: Evaluated classes in the order of their train ids: label id in the files, official colour.
CLASSES: dict[str, tuple[int, tuple[int, int, int]]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
#: Label ids run 0..33; those that are no class above are ignored. 255 is what a licence plate's -1 becomes in a PNG.
LABEL_IDS = range(34)
_IMAGE, _LABEL = "_leftImg8bit", "_gtFine_labelIds"
_WITHHELD = ("test",)


@register_dataset("cityscapes")
class Cityscapes(OfficialDataset):
    """Cityscapes fine: 19 street classes at 2048x1024, 2975/500 images with labels, 1525 test images without.

    `{root}/leftImg8bit/{split}/{city}/*_leftImg8bit.png` and `{root}/gtFine/{split}/{city}/*_gtFine_labelIds.png`, as
    the two archives unpack, together or each in a folder of its own name. The train ids need not be generated. The
    labels of `test` are dummies: it is not scored here, but `lossbench predict` writes what the server takes.
    """

    licence: ClassVar[str] = "own licence: non-commercial research, no redistribution"
    how_to_get: ClassVar[str] = (
        "register at www.cityscapes-dataset.com, then download leftImg8bit_trainvaltest.zip and "
        "gtFine_trainvaltest.zip and unpack both there"
    )
    homepage: ClassVar[str] = "https://www.cityscapes-dataset.com/downloads/"
    archives: ClassVar[Sequence[Archive]] = (
        Archive("leftImg8bit_trainvaltest.zip", "images, 11 GB", top="leftImg8bit"),
        Archive("gtFine_trainvaltest.zip", "fine labels, 241 MB", top="gtFine"),
    )
    expected_counts: ClassVar[Mapping[str, Sequence[int]]] = {"train": (2975,), "val": (500,)}
    expected_size: ClassVar[tuple[int, int] | None] = (1024, 2048)
    unlabelled_splits = _WITHHELD

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.class_names = tuple(CLASSES)
        self.colors = tuple(color for _, color in CLASSES.values())
        self.official_ids = tuple(label for label, _ in CLASSES.values())
        ignored = set(LABEL_IDS) - set(self.official_ids) | {self.ignore_index}
        self._table = id_table([[label] for label in self.official_ids], ignored)
        self._pairs, self._images = cache(self._find_pairs), cache(self._find_images)

    def __reduce__(self) -> tuple[type[Cityscapes], tuple[Path]]:
        return type(self), (self.root,)

    def names(self, split: str) -> tuple[str, ...]:
        """`{city}/{city}_{sequence}_{frame}`, sorted. Raises DataError; always for `test`, which has no truth."""
        return tuple(name for name, _, _ in self._pairs(split))

    def files(self, split: str) -> list[Path]:
        """Images and label files of the split, in order. Raises DataError."""
        return [file for _, image, label in self._pairs(split) for file in (image, label)]

    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image (1024, 2048, 3) and target (1024, 2048) with 0..18 and 255. Raises DataError."""
        _, image_file, label_file = self._pairs(split)[index]
        image, raw = read_image(image_file), read_mask(label_file)
        grey(raw, label_file, "*_gtFine_labelIds.png, not the *_color.png")
        same_size(image, raw, image_file, label_file)
        return image, map_ids(raw, self._table, label_file, "label ids 0..33")

    def unlabelled_names(self, split: str) -> tuple[str, ...]:
        """As `names`, for `test`. Raises DataError."""
        self._known(split, _WITHHELD)
        return tuple(self._images(split))

    def unlabelled_image(self, split: str, index: int) -> NDArray[np.uint8]:
        """Image (1024, 2048, 3) of `test`. Raises DataError."""
        return read_image(self._images(split)[self.unlabelled_names(split)[index]])

    def _known(self, split: str, splits: Sequence[str]) -> None:
        if split not in splits:
            raise DataError(
                f"cityscapes has no split '{split}'", hint=did_you_mean(split, splits) or " or ".join(splits)
            )

    def _find_pairs(self, split: str) -> tuple[tuple[str, Path, Path], ...]:
        if split in _WITHHELD:
            raise DataError(
                f"cityscapes: '{split}' cannot be scored: its label files are dummies, the true ones are withheld",
                hint=f"score val; for the server: lossbench predict RUN --split {split} --format cityscapes",
            )
        self._known(split, tuple(self.expected_counts))
        images = self._images(split)
        folder = self._folder("gtFine", split)
        labels = _by_name(folder, _LABEL)
        paired(images, labels, f"{folder}/{{name}}{_LABEL}.png")
        return tuple((name, image, labels[name]) for name, image in images.items())

    def _find_images(self, split: str) -> dict[str, Path]:
        folder = self._folder("leftImg8bit", split)
        images = _by_name(folder, _IMAGE)
        if not images:
            raise DataError(f"cityscapes: no images in {folder}", hint=self.how_to_get)
        return images

    def _folder(self, kind: str, split: str) -> Path:
        """`{root}/{kind}/{split}`, or the same below a folder named as the archive. Raises DataError."""
        for base in (self.root, self.root / f"{kind}_trainvaltest"):
            if (base / kind / split).is_dir():
                return base / kind / split
        raise DataError(
            f"cityscapes: no folder {self.root / kind / split}",
            hint=f"{self.how_to_get}; another place: --data-root or LOSSBENCH_DATA (its sub-folder cityscapes)",
        )


def _by_name(folder: Path, suffix: str) -> dict[str, Path]:
    """Files `{city}/{name}{suffix}.png` by `{city}/{name}`, sorted."""
    files = sorted(folder.glob(f"*/*{suffix}.png"))
    return {f"{file.parent.name}/{file.stem.removesuffix(suffix)}": file for file in files if file.name[0] != "."}
