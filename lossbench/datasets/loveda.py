"""LoveDA: land cover of three Chinese cities from the air, 7 classes, urban and rural scenes at 1024x1024.

Source: Wang et al., "LoveDA: A remote sensing land-cover dataset for domain adaptive semantic segmentation", NeurIPS
2021 Datasets and Benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from lossbench.datasets._official import Archive
from lossbench.datasets._pairwise import PairDataset
from lossbench.datasets._reading import id_table
from lossbench.registry import register_dataset

#: In the order of their ids 1..7 in the mask files; the authors' colours.
CLASSES: dict[str, tuple[int, int, int]] = {
    "background": (255, 255, 255),
    "building": (255, 0, 0),
    "road": (255, 255, 0),
    "water": (0, 0, 255),
    "barren": (159, 129, 183),
    "forest": (0, 255, 0),
    "agricultural": (255, 195, 128),
}
#: Images by scene and split.
COUNTS = {"Rural": {"train": 1366, "val": 992}, "Urban": {"train": 1156, "val": 677}}
_FOLDERS = {"train": "Train", "val": "Val", "test": "Test"}
_ZENODO = "https://zenodo.org/records/5706578/files"


@register_dataset("loveda")
class LoveDA(PairDataset):
    """LoveDA land cover: 7 classes at 1024x1024, 2522/1669 images with labels, 1796 test images without.

    `{root}/{Train,Val}/{Urban,Rural}/{images_png,masks_png}/*.png`, as the archives unpack; `Test` has images only.

    Traps:
        - Files are plain numbers, and one number may be in both scenes: names are `Urban/12` and `Rural/12` here.
        - Masks hold 1..7, and 0 for "no data", which is ignored; `background` is a class, 1. To read 0 as background
          shifts every class by one.
        - The server wants predictions of 0..6, not 1..7: the class indices, `lossbench predict --format png`.
        - Urban and Rural have other class shares and are domains of their own: name the scene with a number.

    Args:
        scene: all, or one of the two domains.
    """

    licence: ClassVar[str] = "CC BY-NC-SA 4.0; images from Google Earth, academic use only"
    how_to_get: ClassVar[str] = (
        "`lossbench data get loveda` downloads Train.zip, Val.zip and Test.zip (9.6 GB, no registration) of "
        "zenodo.org/records/5706578 and unpacks them there"
    )
    homepage: ClassVar[str] = "https://github.com/Junjue-Wang/LoveDA"
    archives: ClassVar[Sequence[Archive]] = (
        Archive(
            "Train.zip",
            "training images and labels, 4.0 GB",
            url=f"{_ZENODO}/Train.zip?download=1",
            md5="de2b196043ed9b4af1690b3f9a7d558f",
            top="Train",
        ),
        Archive(
            "Val.zip",
            "validation images and labels, 2.4 GB",
            url=f"{_ZENODO}/Val.zip?download=1",
            md5="84cae2577468ff0b5386758bb386d31d",
            top="Val",
        ),
        Archive(
            "Test.zip",
            "test images, 3.1 GB",
            url=f"{_ZENODO}/Test.zip?download=1",
            md5="a489be0090465e01fb067795d24e6b47",
            top="Test",
        ),
    )
    expected_size: ClassVar[tuple[int, int] | None] = (1024, 1024)
    registered: ClassVar[str] = "loveda"
    known_ids: ClassVar[str] = "1..7, 0 = no data"
    label_files: ClassVar[str] = "masks_png, grey PNG"
    unlabelled_splits = ("test",)

    def __init__(self, root: Path, *, scene: Literal["all", "urban", "rural"] = "all") -> None:
        self.scene = scene
        self._scenes = tuple(name for name in COUNTS if scene in ("all", name.lower()))
        self.class_names, self.colors = tuple(CLASSES), tuple(CLASSES.values())
        # Of an instance, since they depend on the scene.
        self.expected_counts = {  # type: ignore[misc]
            split: (sum(COUNTS[name][split] for name in self._scenes),) for split in self.labelled_splits
        }
        self._set_up(root, id_table([[i] for i in range(1, len(CLASSES) + 1)], [0]))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.root, self.scene)

    def _images(self, split: str) -> Mapping[str, Path]:
        return self._of_scenes(split, "images_png")

    def _labels(self, split: str) -> Mapping[str, Path]:
        return self._of_scenes(split, "masks_png")

    def _label_place(self, split: str, name: str) -> Path:
        scene, _, number = name.partition("/")
        return self.root / _FOLDERS[split] / scene / "masks_png" / f"{number}.png"

    def _of_scenes(self, split: str, kind: str) -> dict[str, Path]:
        folders = {scene: self.root / _FOLDERS[split] / scene / kind for scene in self._scenes}
        return {
            f"{scene}/{name}": file
            for scene, folder in folders.items()
            for name, file in self._listed(folder, "*.png").items()
        }


def _rebuild(root: Path, scene: Literal["all", "urban", "rural"]) -> LoveDA:
    return LoveDA(root, scene=scene)
