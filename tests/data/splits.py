"""Datasets in memory and their cached splits, for the tests of data/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench.data.cache import CachedSplit, open_split
from lossbench.datasets.base import SegmentationDataset

SIZES = ((12, 20), (12, 20), (9, 7), (12, 20), (12, 20))


class Memory(SegmentationDataset):
    """Random images of given sizes; pixel values encode the label when `encode` is set."""

    class_names = ("a", "b", "c")
    colors = ((1, 0, 0), (0, 1, 0), (0, 0, 1))

    def __init__(self, sizes: Sequence[tuple[int, int]] = SIZES, mark: str = "0") -> None:
        self.sizes = tuple(sizes)
        self.mark = mark
        self.loads = 0

    def names(self, split: str) -> list[str]:
        return [f"{split}{i}" for i in range(len(self.sizes))]

    def files(self, split: str) -> list[Path]:
        return []

    def fingerprint(self, split: str) -> str:
        return f"{self.mark}{len(self.sizes)}"

    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        self.loads += 1
        rng = np.random.default_rng([index, len(split)])
        height, width = self.sizes[index]
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return image, rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))


def cached(root: Path, sizes: Sequence[tuple[int, int]] = SIZES) -> CachedSplit:
    return open_split(Memory(sizes), "train", cache_root=root)
