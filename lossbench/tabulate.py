"""Records into a `RunTable`."""

from __future__ import annotations

import marshal
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench import finescores, metrics
from lossbench.records import Record
from lossbench.runtable import COSTS, SCORES, Condition, Floats, Ints, RunTable, cost

#: Matrices whose scores are computed together: enough to forget numpy's overhead, few enough for the cache.
_BATCH = 1024
_NO_FINE = (math.nan,) * len(finescores.FINE)


def tabulate(folder: Path, records: Iterable[tuple[str, Record]]) -> RunTable:
    """The table of records, each with the path of its file below `folder`."""
    build, paths = _Builder(), []
    for path, record in records:
        build.add(record)
        paths.append(path)
    return build.table(folder, paths)


class _Builder:
    """Collects records; scores are computed for a batch of matrices at a time."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}
        self._conditions: list[Condition] = []
        self._condition: list[int] = []
        self._ids: list[int] = []
        self._seeds: list[int] = []
        self._costs: list[float] = []
        self._fine: list[float] = []
        self._waiting: list[NDArray[np.int64]] = []
        self._scores: list[Floats] = []
        self._counts: list[Ints] = []

    def add(self, record: Record) -> None:
        shared = _shared(record)
        # Version 2 of marshal has no references: equal bytes are equal values.
        place = self._known.setdefault(marshal.dumps(shared, 2), len(self._conditions))
        if place == len(self._conditions):
            self._conditions.append(Condition(*shared))
        self._condition.append(place)
        self._ids.append(int(record.id, 16))
        self._seeds.append(record.seed)
        self._costs += [cost(record.costs, key) for key in COSTS]
        self._fine += (
            finescores.scores(record.extra_counts, len(record.class_names)).values()
            if record.extra_counts
            else _NO_FINE
        )
        self._waiting.append(record.confusion)
        if len(self._waiting) == _BATCH:
            self._score()

    def _score(self) -> None:
        """Counts and scores of the waiting matrices, those of equal classes and training pixels together."""
        places = self._condition[len(self._condition) - len(self._waiting) :]
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, place in enumerate(places):
            groups.setdefault(tuple(self._conditions[place].train_pixels), []).append(index)
        scores = np.empty((len(places), len(SCORES)))
        counts: list[Ints] = [np.empty(0, dtype=np.int64)] * len(places)
        for pixels, members in groups.items():
            found = metrics.counts_of(np.stack([self._waiting[index] for index in members]))
            figures = metrics.pooled(found, pixels)
            scores[members] = np.stack([figures[key] for key in SCORES], axis=-1)
            for index, row in zip(members, found.reshape(len(members), -1), strict=True):
                counts[index] = row
        self._scores.append(scores)
        self._counts.append(np.concatenate(counts))
        self._waiting.clear()

    def table(self, folder: Path, paths: list[str]) -> RunTable:
        if self._waiting:
            self._score()
        return RunTable(
            folder=folder,
            paths=paths,
            conditions=self._conditions,
            condition=np.array(self._condition, dtype=np.int32),
            ids=np.array(self._ids, dtype=np.uint64),
            seeds=np.array(self._seeds, dtype=np.int64),
            costs=np.array(self._costs, dtype=np.float64).reshape(-1, len(COSTS)),
            scores=np.concatenate([np.empty((0, len(SCORES))), *self._scores]),
            fine=np.array(self._fine, dtype=np.float64).reshape(-1, len(finescores.FINE)),
            counts=np.concatenate([np.empty(0, dtype=np.int64), *self._counts]),
        )


def _shared(record: Record) -> tuple[Any, ...]:
    """The fields of its `Condition`, in order."""
    return (
        {key: value for key, value in record.cell.items() if key != "seed"},
        record.labels,
        record.status,
        record.class_names,
        record.absent_class_rule,
        record.train_pixels,
        record.confusion.sum(axis=1).tolist(),
        {key: record.provenance.get(key) for key in ("protocol", "code", "hardware")},
    )
