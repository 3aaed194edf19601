"""A dataset under test, and a sample of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.conformance.report import Broken
from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import DataError
from lossbench.registry import Plugin

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
#: Images of a split that the rules load. `lossbench data check` looks at all of them.
SAMPLE = 8


class DatasetSubject:
    """A dataset under test.

    Args:
        plugin, params: the dataset.
        data_root: the folder that holds a folder per dataset; None: LOSSBENCH_DATA, else the platform's.

    Raises:
        DataError: none of its splits is there.
    """

    def __init__(self, plugin: Plugin, params: Mapping[str, Any], data_root: Path | None = None) -> None:
        self.plugin = plugin
        self.params = dict(params)
        self.fed = "the constructor"
        self.root: Path | None = None
        if "root" in plugin.facts:
            from lossbench.data.roots import data_root as resolve
            from lossbench.data.roots import dataset_root

            self.root = dataset_root(resolve(data_root), plugin.name)

    def build(self) -> SegmentationDataset:
        """A fresh instance."""
        dataset = self.plugin.build(self.params, root=self.root)
        if not isinstance(dataset, SegmentationDataset):
            raise Broken(f"a {type(dataset).__name__}", "a lossbench.datasets.base.SegmentationDataset")
        return dataset

    @cached_property
    def dataset(self) -> SegmentationDataset:
        """The instance all rules share."""
        return self.build()

    @property
    def exceptions(self) -> dict[str, str]:
        declared = dict(getattr(self.dataset, "conformance_exceptions", {}))
        _ = self.splits  # data that is not there is no finding about the code
        return declared

    @cached_property
    def splits(self) -> dict[str, Sequence[str]]:
        """Names of the images by split, of the splits that are there. Raises DataError when none is."""
        found: dict[str, Sequence[str]] = {}
        absent: DataError | None = None
        for split in self.dataset.splits:
            try:
                found[split] = list(self.dataset.names(split))
            except DataError as error:
                absent = absent or error
        if not found and absent is not None:
            raise absent
        return found

    def sample(self, split: str) -> list[int]:
        """Indices of up to SAMPLE images: first those whose names another split has, too, then evenly spread."""
        names = self.splits[split]
        elsewhere = {name for other, others in self.splits.items() if other != split for name in others}
        shared = [index for index, name in enumerate(names) if name in elsewhere]
        spread = [round(i * (len(names) - 1) / max(1, SAMPLE - 1)) for i in range(SAMPLE)] if names else []
        return list(dict.fromkeys([*shared[: SAMPLE // 2], *spread]))[:SAMPLE]

    def sampled(self, split: str) -> str:
        """What `sample` is, for a report."""
        chosen, total = len(self.sample(split)), len(self.splits[split])
        return f"{split}, " + (f"{chosen} of {total} images" if chosen < total else f"all {total} images")

    @cached_property
    def pairs(self) -> dict[str, dict[int, Pair]]:
        """The sample of every split, loaded once."""
        loaded: dict[str, dict[int, Pair]] = {}
        for split in self.splits:
            loaded[split] = {}
            for index in self.sample(split):
                self.fed = f"load({split!r}, {index})"
                loaded[split][index] = self.dataset.load(split, index)
        return loaded

    def reset(self) -> None:
        """Nothing: rules only read."""


def alike(first: Pair, second: Pair) -> bool:
    """Whether two pairs are the same in every bit."""
    return all(a.shape == b.shape and bool((a == b).all()) for a, b in zip(first, second, strict=True))
