"""What a leaderboard is made of: columns, runs, rows over seeds, blocks of comparable rows.

Figures are computed when asked for, so that a narrow table does not pay for the columns it drops.
Scores are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lossbench import metrics
from lossbench.cells import canonical_json
from lossbench.records import Record
from lossbench.statistics import Description, Paired, describe, paired_difference, paired_ratio
from lossbench.store import StoredRecord


@dataclass(frozen=True)
class Column:
    """A figure of a row. `higher` says which direction is better, None: neither."""

    key: str
    title: str
    unit: str
    higher: bool | None
    meaning: str


def _percent(key: str, title: str, meaning: str) -> Column:
    return Column(key, title, "%", True, meaning)


#: Every scalar column, in the order of tables that show all. Scores are in percent.
COLUMNS: Mapping[str, Column] = {
    column.key: column
    for column in (
        _percent("miou", "mIoU", "mean intersection over union"),
        Column("delta", "Δ", "points", True, "mIoU minus the reference's, paired over seeds"),
        _percent("macc", "mAcc", "mean class accuracy, equal to mean recall"),
        _percent("mprecision", "mPrec", "mean precision"),
        _percent("mrecall", "mRec", "mean recall"),
        _percent("mf1", "mF1", "macro F1 (mean Dice score)"),
        _percent("head_miou", "head", "mIoU of the most frequent third of the classes"),
        _percent("middle_miou", "mid", "mIoU of the middle third of the classes"),
        _percent("tail_miou", "tail", "mIoU of the rarest third of the classes"),
        _percent("pixel_accuracy", "pixAcc", "pixel accuracy"),
        _percent("fwiou", "fwIoU", "frequency-weighted IoU"),
        _percent("image_miou", "mIoU/img", "mIoU within each image, averaged over images"),
        _percent("image_class_miou", "mIoU/cls", "IoU over images per class, then over classes"),
        _percent("image_macc", "mAcc/img", "mean class accuracy within each image, averaged over images"),
        _percent("image_mprecision", "mPrec/img", "mean precision within each image, averaged over images"),
        _percent("image_mrecall", "mRec/img", "mean recall within each image, averaged over images"),
        _percent("image_mf1", "mF1/img", "macro F1 within each image, averaged over images"),
        Column("ms_per_step", "ms", "/step", False, "milliseconds per optimiser step, median over seeds"),
        Column("time_ratio", "×", "", None, "time per step over the reference's, paired over seeds"),
        Column("peak_memory_mb", "mem", "MB", False, "peak memory of training, median over seeds"),
        Column("extra_forwards", "+fwd", "passes", False, "extra (partial) forward passes per step"),
    )
}
#: Columns that come from `Record.costs` as they are.
COSTS = frozenset({"ms_per_step", "peak_memory_mb", "extra_forwards"})


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
            cost = self.record.costs.get(key)
            return float(cost) if isinstance(cost, int | float) else math.nan
        figures = self.averaged if key.startswith("image_") else self.pooled
        return figures.get(key, math.nan)

    @cached_property
    def machine(self) -> str:
        """What times and memory depend on beside the cell: two runs' times compare only if this is equal."""
        hardware = self.record.provenance.get("hardware") or {}
        gpu = hardware.get("gpu") or {}
        return canonical_json([hardware.get(key) for key in ("cpu", "threads", "device")] + [gpu.get("name")])


@dataclass
class Row:
    """One loss with its parameters, over its seeds (`runs` sorted by seed). `reference` may be the row itself."""

    label: str
    loss: Mapping[str, Any]
    runs: list[Run]
    reference: Row | None = None
    _described: dict[str, Description] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def n(self) -> int:
        return len(self.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def diverged(self) -> int:
        return sum(run.diverged for run in self.runs)

    @property
    def stale(self) -> int:
        return sum(bool(run.stale) for run in self.runs)

    @property
    def is_reference(self) -> bool:
        return self.reference is self

    def by_seed(self, key: str) -> dict[int, float]:
        return {run.seed: run.value(key) for run in self.runs}

    def describe(self, key: str) -> Description:
        """Mean and sd over seeds of a score. A run that scored nothing at all makes the mean undefined: leaving it
        out would reward the divergence."""
        if key not in self._described:
            scored = all(run.record.confusion.any() for run in self.runs)
            self._described[key] = describe(run.value(key) for run in self.runs) if scored else describe([])
        return self._described[key]

    def class_iou(self, name: str) -> Description:
        """Mean and sd over seeds of a class's IoU in percent (seeds where it is absent left out)."""
        return describe(run.class_iou.get(name, math.nan) for run in self.runs)

    @cached_property
    def delta(self) -> Paired | None:
        """mIoU minus the reference's, in points, paired over seeds; None without a reference or a common seed."""
        if self.reference is None or self.is_reference:
            return None
        return paired_difference(self.by_seed("miou"), self.reference.by_seed("miou"))

    @cached_property
    def time_ratio(self) -> float | None:
        """Median over common seeds of the ratio of ms per step, among runs on equal machines."""
        if self.reference is None:
            return None
        machines = {run.seed: run.machine for run in self.reference.runs}
        ours = {run.seed: run.value("ms_per_step") for run in self.runs if machines.get(run.seed) == run.machine}
        return paired_ratio(ours, self.reference.by_seed("ms_per_step"))

    def value(self, key: str) -> float:
        """The number a table prints and sorts by: a mean, a median for costs. NaN where there is none."""
        if key == "delta":
            return math.nan if self.delta is None else self.delta.mean
        if key == "time_ratio":
            return math.nan if self.time_ratio is None else self.time_ratio
        if key in COSTS:
            values = [value for value in self.by_seed(key).values() if not math.isnan(value)]
            return float(np.median(values)) if values else math.nan
        return self.describe(key).mean


@dataclass
class Block:
    """Rows that may be compared, sorted, and what a reader must know about them."""

    dataset: str
    backbone: str
    variant: str
    protocol: Mapping[str, Any]
    class_names: list[str]
    train_pixels: list[int]
    absent_class_rule: str
    rows: list[Row]
    reference: str
    sort: str
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.dataset} / {self.backbone}" + (f" ({self.variant})" if self.variant else "")

    @property
    def has_reference(self) -> bool:
        return any(row.reference is not None for row in self.rows)

    @property
    def reference_name(self) -> str:
        """Short name of the reference for headers: without its parameters."""
        return self.reference.partition("(")[0]

    @property
    def runs(self) -> list[Run]:
        return [run for row in self.rows for run in row.runs]

    def best(self, key: str) -> float | None:
        """The best value of a column as printed; None where the column has no better side, where there is no
        competition, and for costs taken on different machines."""
        higher = COLUMNS[key].higher
        if higher is None or (key in COSTS and len({run.machine for run in self.runs}) > 1):
            return None
        return _best([row.value(key) for row in self.rows], higher)

    def best_class_iou(self, name: str) -> float | None:
        return _best([row.class_iou(name).mean for row in self.rows], True)


def _best(values: Iterable[float], higher: bool) -> float | None:
    # Rounded as printed: what looks equal is equally marked.
    printed = [round(value, 2) for value in values if not math.isnan(value)]
    if len(printed) < 2 or len(set(printed)) == 1:
        return None
    return max(printed) if higher else min(printed)
