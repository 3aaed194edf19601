"""Small datasets on disk in exact layouts, and an instance of every registered dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lossbench.datasets.base import SegmentationDataset
from lossbench.registry import Registry

SIZE = (24, 32)  # height, width


def pair(seed: int, ids: list[int], size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A random image and a random mask that holds each of `ids`."""
    rng = np.random.default_rng(seed)
    mask = rng.choice(ids, size).astype(np.uint8)
    mask.flat[: len(ids)] = ids
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), mask


def save(file: Path, array: np.ndarray, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file, **options)
    return file


def camvid(root: Path, counts: dict[str, int] | None = None) -> Path:
    """The SegNet layout: list files with foreign paths, masks of 0..11."""
    for split, count in (counts or {"train": 3, "val": 2}).items():
        lines = []
        for index in range(count):
            image, mask = pair(index, list(range(12)))
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
            image, mask = pair(index, list(ids))
            save(root / "images" / split / f"img{index}.jpg", image)
            save(root / "masks" / split / f"img{index}.png", mask)
    return root


def build(name: str, root: Path) -> SegmentationDataset:
    """A minimal instance of a registered dataset. One that needs a tree of its own adds it here; a generated one
    (no `root`, no required parameter) works as it is."""
    plugin = Registry("dataset").get(name)
    if name == "camvid":
        return plugin.build({}, root=camvid(root / name))
    if name == "folder":
        tree = folder(root / name)
        return plugin.build({"title": "demo", "path": str(tree), "classes": ["a", "b", "c"]}, root=root / name)
    small = {key: 4 for key in ("train_images", "val_images") if key in plugin.params}
    return plugin.build(small, root=root / name)
