"""Whether the data of today is what records were made from, told without decoding an image."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from lossbench.cells import Cell, canonical_json
from lossbench.data.cache import CachedSplit, decoded_split
from lossbench.data.roots import dataset_root
from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import LossbenchError
from lossbench.registry import Kind, Registry
from lossbench.runtable import Condition


class DataDrift:
    """Compares records with the datasets of their cells as they lie on this machine.

    A cell's identity has a dataset's name and parameters, not its files: they may be a copy elsewhere. So images or
    labels that were changed since leave a cell done, and it takes this to notice.

    Args:
        data_root, cache_root: where datasets and their decoded splits lie.
    """

    def __init__(self, registries: Mapping[Kind, Registry], data_root: Path, cache_root: Path) -> None:
        self._registry, self._data_root, self._cache_root = registries["dataset"], data_root, cache_root
        self._datasets: dict[str, SegmentationDataset | None] = {}
        self._splits: dict[tuple[str, str], CachedSplit | None] = {}

    def changed(self, cell: Cell, condition: Condition) -> bool:
        """Whether a decoded split has other labelled pixels per class than the record states. False where it cannot be
        told: a split that is not here or not decoded, a run that scored nothing, a hold-out."""
        if cell.protocol.holdout is not None:
            return False
        stated = {cell.protocol.train_split: condition.train_pixels}
        if condition.scored:
            stated[cell.protocol.eval_split] = condition.truth
        for split, pixels in stated.items():
            decoded = self._decoded(cell, split)
            if decoded is not None and not np.array_equal(decoded.class_counts, pixels):
                return True
        return False

    def doubtful(self, cell: Cell, recorded: Mapping[str, object]) -> bool:
        """Whether the files of a split, of which nothing is decoded yet, are others by name, size or time than those of
        the record: a fresh copy, or other images.

        Args:
            recorded: fingerprint by split, of the record's provenance.
        """
        dataset = self._dataset(cell)
        if dataset is None or cell.protocol.holdout is not None:
            return False
        for split in (cell.protocol.train_split, cell.protocol.eval_split):
            with suppress(LossbenchError):
                if self._decoded(cell, split) is None and dataset.fingerprint(split) != recorded.get(split):
                    return True
        return False

    def _decoded(self, cell: Cell, split: str) -> CachedSplit | None:
        key = canonical_json(cell.dataset.identity), split
        if key not in self._splits:
            self._splits[key] = None
            dataset = self._dataset(cell)
            if dataset is not None:
                with suppress(LossbenchError):
                    self._splits[key] = decoded_split(dataset, split, self._cache_root)
        return self._splits[key]

    def _dataset(self, cell: Cell) -> SegmentationDataset | None:
        key = canonical_json(cell.dataset.identity)
        if key not in self._datasets:
            self._datasets[key] = None
            root = dataset_root(self._data_root, cell.dataset.name)
            # Whatever a plugin's constructor raises where its files are not here: then nothing can be told.
            with suppress(Exception):
                self._datasets[key] = self._registry.get(cell.dataset.name).build(cell.dataset.params, root=root)
        return self._datasets[key]
