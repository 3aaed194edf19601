"""The dataset `my_dataset`: replace the images, keep the contract.

Images and masks in folders need no code at all: see `lossbench show dataset folder`.

    lossbench check my_dataset.py
    lossbench data check my_dataset --plugin FILE   # all images

In a suite:

    plugins: [./my_dataset.py]
    datasets: [my_dataset]

As it stands it draws discs. For files, take `root: Path` in the constructor (the folder
`my_dataset` of the data root: LOSSBENCH_DATA, --data-root)
and write, say:

    def files(self, split):             # all that `load` reads: caches depend on them
        images = sorted((self.root / split / "images").glob("*.png"))
        if not images:
            raise DataError(f"{self.root / split}: no images")
        return [*images, *(self.root / split / "masks" / file.name for file in images)]

and leave `fingerprint` out: the base class makes it from the files.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import DataError
from lossbench.registry import register_dataset

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@register_dataset("my_dataset")
class MyDataset(SegmentationDataset):
    """What `lossbench list` shows: discs of two colors on grey.

    Args:
        images: number of training images; a quarter as many to validate.
    """

    licence = "whose the images are and what one may do with them"
    how_to_get = "where to get them"
    # In the order of their ids 0, 1, ...; 255 marks pixels that count nowhere.
    class_names = ("ground", "red", "blue")
    colors = ((128, 128, 128), (220, 60, 60), (60, 60, 220))

    # Cheap: no image is opened here. Keyword-only, typed, plain defaults.
    def __init__(self, *, images: int = 16) -> None:
        self._lengths = {"train": images, "val": max(1, images // 4)}

    def names(self, split: str) -> list[str]:
        """Stable, distinct names, in order: one for each image of the split."""
        if split not in self._lengths:
            raise DataError(f"my_dataset has no split '{split}'")
        return [f"{split}_{index:04d}" for index in range(self._lengths[split])]

    def files(self, split: str) -> Sequence[Path]:
        """Every file that `load` reads: none, here."""
        self.names(split)
        return []

    def fingerprint(self, split: str) -> str:
        """Changes whenever what is decoded does."""
        return f"discs1{split}{len(self.names(split))}"

    def load(self, split: str, index: int) -> Pair:
        """Image (H, W, 3) RGB, target (H, W): uint8. Several threads call it."""
        seed = [("train", "val").index(split), index]
        random = np.random.default_rng(seed)  # of its own: no global state
        height, width = 64, 96
        target = np.zeros((height, width), np.uint8)
        rows, columns = np.ogrid[:height, :width]
        for label in random.integers(1, 3, size=6):
            row, column = random.integers(height), random.integers(width)
            near = (rows - row) ** 2 + (columns - column) ** 2
            target[near < random.integers(20, 160)] = label
        noise = random.integers(-30, 31, (height, width, 3))
        image = np.array(self.colors)[target] + noise
        target[:2] = 255  # unlabelled
        return image.clip(0, 255).astype(np.uint8), target
