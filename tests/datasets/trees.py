"""Small datasets on disk in exact layouts, and an instance of every registered dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from lossbench.datasets._pascal_context import CONTEXT_IDS
from lossbench.datasets.base import SegmentationDataset
from lossbench.registry import Registry

SIZE = (24, 32)  # height, width


def pair(seed: int, ids: list[int], size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A random image and a random mask that holds each of `ids`."""
    rng = np.random.default_rng(seed)
    mask = rng.choice(ids, size).astype(np.uint8)
    mask.flat[: len(ids)] = ids
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), mask


def _seed(split: str, index: int) -> int:
    """No two splits share an image."""
    return index + 1000 * ("train", "val", "test").index(split)


def save(file: Path, array: np.ndarray, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file, **options)
    return file


def camvid(root: Path, counts: dict[str, int] | None = None) -> Path:
    """The SegNet layout: list files with foreign paths, masks of 0..11."""
    for split, count in (counts or {"train": 3, "val": 2}).items():
        lines = []
        for index in range(count):
            image, mask = pair(_seed(split, index), list(range(12)))
            name = f"0001TP_{index:06d}.png"
            save(root / split / name, image)
            save(root / f"{split}annot" / name, mask)
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}")
        (root / f"{split}.txt").write_text("\n".join(reversed(lines)) + "\n")
    return root


def folder(root: Path, count: int = 3, ids: tuple[int, ...] = (0, 1, 2, 255)) -> Path:
    """images/{split}/*.jpg and masks/{split}/*.png with grey ids."""
    for split in ("train", "val"):
        for index in range(count):
            image, mask = pair(_seed(split, index), list(ids))
            save(root / "images" / split / f"img{index}.jpg", image)
            save(root / "masks" / split / f"img{index}.png", mask)
    return root


def cityscapes(
    root: Path, counts: dict[str, int] | None = None, *, size: tuple[int, int] = SIZE, apart: bool = False
) -> Path:
    """The official layout with label ids 0..33, images of `test` with dummy labels; `apart`: each archive unpacked in a
    folder of its own name. Two cities a split."""
    for split, count in (counts or {"train": 3, "val": 2, "test": 1}).items():
        for index in range(count):
            city = ("aachen", "bad-honnef")[index % 2]
            name = f"{city}/{city}_{index:06d}_000019"
            image, mask = pair(_seed(split, index), [0] if split == "test" else list(range(34)), size)
            for kind, suffix, array in (("leftImg8bit", "", image), ("gtFine", "_labelIds", mask)):
                base = root / f"{kind}_trainvaltest" if apart else root
                save(base / kind / split / f"{name}_{kind}{suffix}.png", array)
    return root


#: Heights and widths of VOC's images differ.
VOC_SIZES = ((24, 32), (32, 24), (25, 31))
VOC_NAMES = {"train": ("2008_000002", "2007_000032", "2009_000015"), "val": ("2010_000003", "2008_000009")}


def _voc(base: Path, lists: str, ids: list[int]) -> list[tuple[str, np.ndarray]]:
    """JPEGImages and lists below `base`; (name, mask) of every image, a little different in size."""
    masks = []
    for split, names in VOC_NAMES.items():
        for index, name in enumerate(names):
            image, mask = pair(_seed(split, index), ids, VOC_SIZES[index % 3])
            save(base / "JPEGImages" / f"{name}.jpg", image)
            masks.append((name, mask))
        file = base / lists / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{name}\n" for name in names))
    return masks


def voc2010(root: Path, below: str = "VOCdevkit/VOC2010") -> Path:
    """The official devkit: palette masks of 0..20 and 255."""
    for name, mask in _voc(root / below, "ImageSets/Segmentation", [*range(21), 255]):
        file = root / below / "SegmentationClass" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(mask)
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
        picture.save(file)
    return root


def context_ids(mask: np.ndarray) -> np.ndarray:
    """A mask of 0..59 as a LabelMap: 0 becomes one of the 400 other ids."""
    raw = np.array([1, *CONTEXT_IDS.values()], np.uint16)[mask]
    raw[mask == 0] = np.resize([0, 1, 255, 459], int((mask == 0).sum()))
    return raw


def pascal_context(root: Path, *, labels: str = "mat", images: Path | None = None) -> Path:
    """The official labels (`mat`, with the lists of Main) or those toolboxes convert to (`png`). Images below `images`
    (default: in the same folder)."""
    lists = "ImageSets/Main" if labels == "mat" else "ImageSets/SegmentationContext"
    devkit = (images or root) / "VOCdevkit" / "VOC2010"
    for name, mask in _voc(devkit, lists, list(range(60))):
        if labels == "mat":
            (root / "trainval").mkdir(parents=True, exist_ok=True)
            savemat(root / "trainval" / f"{name}.mat", {"LabelMap": context_ids(mask)}, do_compression=True)
        else:
            save(devkit / "SegmentationClassContext" / f"{name}.png", mask)
    return root


def _catalogue(name: str) -> Callable[[Path], Path]:
    """A tree of `catalogue_trees`, which builds on this module."""

    def make(root: Path) -> Path:
        from tests.datasets.catalogue_trees import TREES

        return TREES[name](root)

    return make


_TREES = {
    "camvid": camvid,
    "cityscapes": cityscapes,
    "voc2010": voc2010,
    "pascal_context": pascal_context,
    "pascal_context_paper20": pascal_context,
    **{name: _catalogue(name) for name in ("ade20k", "bdd100k", "kvasir", "loveda", "oxford_pet")},
}


def params(name: str, root: Path) -> dict[str, Any]:
    """Makes the files of a registered dataset below `root / name`; returns the parameters it is built with. One that
    needs a tree of its own adds it to `_TREES`; a generated one (no `root`, no required parameter) works as it is."""
    if name in _TREES:
        _TREES[name](root / name)
        return {}
    if name == "folder":
        return {"title": "demo", "path": str(folder(root / name)), "classes": ["a", "b", "c"]}
    return {key: 4 for key in ("train_images", "val_images") if key in Registry("dataset").get(name).params}


def build(name: str, root: Path) -> SegmentationDataset:
    """A minimal instance of a registered dataset."""
    dataset: SegmentationDataset = Registry("dataset").get(name).build(params(name, root), root=root / name)
    return dataset
