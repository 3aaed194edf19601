"""BDD100K, semantic segmentation: Cityscapes' 19 classes in American streets at 1280x720.

Source: Yu et al., "BDD100K: A diverse driving dataset for heterogeneous multitask learning", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from lossbench.datasets._official import Archive
from lossbench.datasets._pairwise import PairDataset
from lossbench.datasets._reading import id_table
from lossbench.datasets.cityscapes import CLASSES
from lossbench.registry import register_dataset


class Layout(NamedTuple):
    """Where images and labels lie, below the folder of the archives; a split is a folder in each."""

    images: str
    labels: str
    suffix: str


#: As the archives unpack since 2020, and before.
LAYOUTS = (
    Layout("images/10k", "labels/sem_seg/masks", ""),
    Layout("seg/images", "seg/labels", "_train_id"),
)
_BELOW = ("bdd100k", "")


@register_dataset("bdd100k")
class BDD100K(PairDataset):
    """BDD100K segmentation: Cityscapes' 19 classes at 1280x720, 7000/1000 images with labels, 2000 test images without.

    `{root}/bdd100k/images/10k/{split}/*.jpg` with `{root}/bdd100k/labels/sem_seg/masks/{split}/*.png`, or the older
    `{root}/bdd100k/seg/images/{split}/*.jpg` with `{root}/bdd100k/seg/labels/{split}/*_train_id.png`; the folder
    `bdd100k` may be `{root}` itself. The record notes which.

    Traps:
        - The "10k" images are no subset of the "100k" ones, but overlap with them: weights that were trained on
          100k/train, for detection say, may have seen images of 10k/val. There are no segmentation labels of "100k".
        - Labels are train ids 0..18 and 255, which is ignored, not Cityscapes' label ids 0..33.
        - `colormaps/` and `color_labels/` beside the labels are pictures. The JSON's polygons do not give the very
          pixels of the masks.
    """

    licence: ClassVar[str] = "own licence: education, research, not for profit"
    how_to_get: ClassVar[str] = (
        "register at bdd-data.berkeley.edu, then download `10K Images` and `Semantic Segmentation` and unpack both "
        "there, which makes bdd100k/images/10k and bdd100k/labels/sem_seg"
    )
    homepage: ClassVar[str] = "https://doc.bdd100k.com/download.html"
    archives: ClassVar[Sequence[Archive]] = (
        Archive(
            "bdd100k_images_10k.zip",
            "`10K Images`, 1.1 GB",
            md5="08f26aecceda982568063d3d5873378e",
            top="bdd100k",
        ),
        Archive(
            "bdd100k_sem_seg_labels_trainval.zip",
            "`Semantic Segmentation`, 0.4 GB",  # released more than once: its checksum depends on when
            top="bdd100k",
        ),
    )
    expected_counts: ClassVar[Mapping[str, Sequence[int]]] = {"train": (7000,), "val": (1000,)}
    expected_size: ClassVar[tuple[int, int] | None] = (720, 1280)
    registered: ClassVar[str] = "bdd100k"
    known_ids: ClassVar[str] = "train ids 0..18, 255 = unknown"
    label_files: ClassVar[str] = "labels/sem_seg/masks, not the colormaps"
    unlabelled_splits = ("test",)

    def __init__(self, root: Path) -> None:
        self.class_names = tuple(CLASSES)
        self.colors = tuple(color for _, color in CLASSES.values())
        self._set_up(root, id_table([[i] for i in range(len(CLASSES))], [self.ignore_index]))

    @property
    def notes(self) -> tuple[str, ...]:
        """Which of the two layouts was read."""
        return (f"layout: {self._found[1].images}, {self._found[1].labels}",)

    @cached_property
    def _found(self) -> tuple[Path, Layout]:
        """(the folder of the archives, the layout in it): the first with both parts, else the first with one, which is
        told what it lacks. Raises DataError."""
        places = [(self.root / below, layout) for layout in LAYOUTS for below in _BELOW]
        for needed in (all, any):
            for folder, layout in places:
                if needed((folder / part).is_dir() for part in (layout.images, layout.labels)):
                    return folder, layout
        raise self._missing("bdd100k/images/10k with bdd100k/labels/sem_seg, nor bdd100k/seg,")

    def _images(self, split: str) -> Mapping[str, Path]:
        folder, layout = self._found
        return self._listed(folder / layout.images / split, "*.jpg")

    def _labels(self, split: str) -> Mapping[str, Path]:
        folder, layout = self._found
        return self._listed(folder / layout.labels / split, f"*{layout.suffix}.png", layout.suffix)

    def _label_place(self, split: str, name: str) -> Path:
        folder, layout = self._found
        return folder / layout.labels / split / f"{name}{layout.suffix}.png"
