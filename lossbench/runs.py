"""Runs and the figures of each: one record at a time, and those of a row of a leaderboard together, as columns.

Figures are computed when asked for. Scores are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lossbench import finescores, metrics
from lossbench.finescores import FINE
from lossbench.records import Record
from lossbench.runtable import COSTS, SCORES, Condition, RunTable, cost, hex_ids
from lossbench.sidecar import per_image_counts
from lossbench.store import StoredRecord

#: What a figure of FINE is shown in: percent, but for the NLL.
FINE_SCALE = {"boundary_miou": 100.0, "ece": 100.0, "nll": 1.0}


@dataclass(frozen=True)
class Run:
    """One record with the figures derived from it, computed when asked for."""

    stored: StoredRecord
    stale: tuple[str, ...] = ()

    @property
    def record(self) -> Record:
        return self.stored.record

    @property
    def seed(self) -> int:
        return self.record.seed

    @property
    def diverged(self) -> bool:
        return self.record.status == "diverged"

    @cached_property
    def pooled(self) -> dict[str, float]:
        """`metrics.summary` of the confusion matrix, in percent."""
        figures = metrics.summary(self.record.confusion, self.record.train_pixels)
        return {key: 100 * value for key, value in figures.items()}

    @cached_property
    def averaged(self) -> dict[str, float]:
        """`metrics.image_averages` of the sidecar, in percent; empty when there is no sound sidecar."""
        per_image = self.stored.per_image
        if per_image is None:
            return {}
        return {key: 100 * value for key, value in metrics.image_averages(per_image).items()}

    @cached_property
    def class_iou(self) -> dict[str, float]:
        """IoU in percent by class name; NaN where the class is in neither truth nor prediction."""
        values = (100 * metrics.iou(self.record.confusion)).tolist()
        return dict(zip(self.record.class_names, values, strict=True))

    def value(self, key: str) -> float:
        """A figure of this run alone, NaN where it has none."""
        if key in COSTS:
            return cost(self.record.costs, key)
        if key in FINE:
            return FINE_SCALE[key] * finescores.scores(self.record.extra_counts, len(self.record.class_names))[key]
        figures = self.averaged if key.startswith("image_") else self.pooled
        return figures.get(key, math.nan)


@dataclass(frozen=True)
class Part:
    """Rows of a table that share a condition, in the table's order, and why they are stale."""

    condition: Condition
    rows: NDArray[np.int64]
    stale: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runs:
    """The runs of one row of a leaderboard, sorted by seed. All of `parts` have the same classes."""

    table: RunTable
    parts: Sequence[Part]

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        rows = np.sort(np.concatenate([part.rows for part in self.parts]))
        return rows[np.argsort(self.table.seeds[rows], kind="stable")]

    @cached_property
    def seeds(self) -> list[int]:
        return list(map(int, self.table.seeds[self.rows]))

    @property
    def ids(self) -> list[str]:
        return hex_ids(self.table.ids[self.rows])

    @property
    def ordered_parts(self) -> list[Part]:
        """The parts in the order in which the runs, sorted by seed, meet them."""

        def first(part: Part) -> tuple[int, int]:
            seeds = self.table.seeds[part.rows]
            return int(seeds.min()), int(part.rows[seeds.argmin()])

        return sorted(self.parts, key=first)

    @property
    def machines(self) -> list[str]:
        """Of each run."""
        names = {int(self.table.condition[part.rows[0]]): part.condition.machine for part in self.parts}
        if len(set(names.values())) == 1:
            return [*names.values()][:1] * len(self)
        return [names[place] for place in self.table.condition[self.rows].tolist()]

    def values(self, key: str) -> NDArray[np.float64]:
        """A figure of each run alone, NaN where it has none. Scores in percent."""
        if key in COSTS:
            costs: NDArray[np.float64] = self.table.costs[self.rows, COSTS.index(key)]
            return costs
        if key in SCORES:
            scores: NDArray[np.float64] = 100 * self.table.scores[self.rows, SCORES.index(key)]
            return scores
        if key in FINE:
            fine: NDArray[np.float64] = FINE_SCALE[key] * self.table.fine[self.rows, FINE.index(key)]
            return fine
        return self._averaged[key]

    @cached_property
    def _averaged(self) -> dict[str, NDArray[np.float64]]:
        """`metrics.image_averages` of the sidecars, in percent; NaN where there is no sound sidecar."""
        averages = {key: np.full(len(self), np.nan) for key in metrics.IMAGE_AVERAGES}
        for place, row in enumerate(self.rows.tolist()):
            per_image = per_image_counts(self.table, row)
            if per_image is not None:
                for key, value in metrics.image_averages(per_image).items():
                    averages[key][place] = 100 * value
        return averages

    @cached_property
    def class_iou(self) -> dict[str, NDArray[np.float64]]:
        """IoU in percent of each run by class name; NaN where the class is in neither truth nor prediction."""
        ious = 100 * metrics.class_scores(self.table.counts_of(self.rows))["iou"]
        return dict(zip(self.parts[0].condition.class_names, ious.T, strict=True))
