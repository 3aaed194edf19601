"""PASCAL VOC 2010, semantic segmentation: 20 object classes and background.

Source: Everingham et al., "The PASCAL visual object classes (VOC) challenge", IJCV 2010.
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
from lossbench.datasets._voc import VOC2010_ARCHIVE, find, places, read_list, voc_colors
from lossbench.errors import DataError, did_you_mean
from lossbench.registry import register_dataset

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_LISTS = "ImageSets/Segmentation"
_SPLITS = ("train", "val", "trainval")


@register_dataset("voc2010")
class VOC2010(OfficialDataset):
    """PASCAL VOC 2010 segmentation: 20 objects and background, 964/964 images of many sizes.

    The official devkit, `{root}/VOCdevkit/VOC2010` or `{root}` itself: `JPEGImages/*.jpg`, `SegmentationClass/*.png`
    and `ImageSets/Segmentation/{train,val,trainval}.txt`. Borders and difficult objects (255) are ignored.
    """

    licence: ClassVar[str] = "images under Flickr's terms of use; for research"
    how_to_get: ClassVar[str] = (
        "`lossbench data get voc2010` downloads VOCtrainval_03-May-2010.tar (1.3 GB, no registration) and unpacks it "
        "there, which makes VOCdevkit/VOC2010"
    )
    homepage: ClassVar[str] = "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/"
    archives: ClassVar[Sequence[Archive]] = (VOC2010_ARCHIVE,)
    expected_counts: ClassVar[Mapping[str, Sequence[int]]] = {"train": (964,), "val": (964,)}

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.class_names = CLASSES
        self.colors = voc_colors(len(CLASSES))
        self._table = id_table([[i] for i in range(len(CLASSES))], [self.ignore_index])
        self._pairs = cache(self._find_pairs)

    def __reduce__(self) -> tuple[type[VOC2010], tuple[Path]]:
        return type(self), (self.root,)

    def names(self, split: str) -> tuple[str, ...]:
        """Image names in the order of the list. Raises DataError."""
        return tuple(image.stem for image, _ in self._pairs(split))

    def files(self, split: str) -> list[Path]:
        """Images and masks of the split, in order. Raises DataError."""
        return [file for pair in self._pairs(split) for file in pair]

    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image (H, W, 3) and target (H, W) with 0..20 and 255. Raises DataError."""
        image_file, mask_file = self._pairs(split)[index]
        image, raw = read_image(image_file), read_mask(mask_file)
        grey(raw, mask_file, "a palette PNG, as in the archive")
        same_size(image, raw, image_file, mask_file)
        return image, map_ids(raw, self._table, mask_file, "0..20, 255 = border")

    def _find_pairs(self, split: str) -> tuple[tuple[Path, Path], ...]:
        if split not in _SPLITS:
            raise DataError(
                f"voc2010 has no split '{split}'", hint=did_you_mean(split, _SPLITS) or f"it has {', '.join(_SPLITS)}"
            )
        where = places(self.root)
        found = [find(where, part) for part in ("JPEGImages", "SegmentationClass", f"{_LISTS}/{split}.txt")]
        images, masks, listed = found
        if images is None or masks is None or listed is None:
            gone = ("JPEGImages", "SegmentationClass", f"{_LISTS}/{split}.txt")[found.index(None)]
            raise DataError(
                f"voc2010: no {gone} in {where[-1]} or {self.root}",
                hint=f"{self.how_to_get}; another place: --data-root or LOSSBENCH_DATA (its sub-folder voc2010)",
            )
        names = read_list(listed)
        image_files = {name: images / f"{name}.jpg" for name in names}
        for file in image_files.values():
            if not file.is_file():
                raise DataError(f"{listed} lists {file.stem}, but there is no {file}", hint="unpack the archive again")
        mask_files = {name: file for name in names if (file := masks / f"{name}.png").is_file()}
        paired(image_files, mask_files, f"{masks}/{{name}}.png")
        return tuple((image_files[name], mask_files[name]) for name in names)
