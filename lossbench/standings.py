"""What a leaderboard is made of: columns, rows over seeds, blocks of comparable rows.

Figures are computed when asked for, so that a narrow table does not pay for the columns it drops.
Scores are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lossbench.equivalence import Tested, compare
from lossbench.runs import Part, Runs
from lossbench.significance import Significance, Test, of_rows
from lossbench.statistics import Description, Paired, describe, median, paired_difference, paired_ratio

if TYPE_CHECKING:
    from lossbench.bootstrap import Interval
    from lossbench.published import PublishedTable
    from lossbench.tuning.board import RowTuning


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
        _percent("image_miou_worst", "worst 5%", "mIoU within each image, averaged over the worst 5 % of the images"),
        _percent("boundary_miou", "bIoU", "mean boundary IoU: of pixels within 2 % of the diagonal from a contour"),
        Column("ece", "ECE", "%", False, "expected calibration error over 15 bins of confidence"),
        Column("nll", "NLL", "nats", False, "negative log-likelihood per pixel of the scored split"),
        Column("ms_per_step", "ms", "/step", False, "milliseconds per optimiser step, median over seeds"),
        Column("time_ratio", "×", "", None, "time per step over the reference's, paired over seeds"),
        Column("peak_memory_mb", "mem", "MB", False, "peak memory of training, median over seeds"),
        Column("extra_forwards", "+fwd", "passes", False, "extra (partial) forward passes per step"),
    )
}
#: Columns that come from `Record.costs` as they are.
COSTS = frozenset({"ms_per_step", "peak_memory_mb", "extra_forwards"})


@dataclass
class Row:
    """One loss with its parameters, over its seeds. `reference` may be the row itself; `margin`, in points, is that of
    the equivalence tests. What was not asked for (see `Block`) is None."""

    label: str
    loss: Mapping[str, Any]
    runs: Runs
    reference: Row | None = None
    margin: float | None = None
    significance: Significance | None = None
    miou_interval: Interval | None = None
    delta_interval: Interval | None = None
    #: Of the tuned track: what was chosen, and what it gained.
    tuning: RowTuning | None = None
    _described: dict[str, Description] = field(default_factory=dict, init=False, repr=False, compare=False)
    _by_seed: dict[str, dict[int, float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _medians: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def n(self) -> int:
        return len(self.runs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.runs.seeds)

    @property
    def diverged(self) -> int:
        return sum(len(part.rows) for part in self.runs.parts if part.condition.status == "diverged")

    @property
    def unscored(self) -> int:
        return sum(len(part.rows) for part in self.runs.parts if not part.condition.scored)

    @property
    def stale(self) -> int:
        return sum(len(part.rows) for part in self.runs.parts if part.stale)

    @property
    def is_reference(self) -> bool:
        return self.reference is self

    def by_seed(self, key: str) -> dict[int, float]:
        if key not in self._by_seed:  # a reference is asked for it by every row
            self._by_seed[key] = dict(zip(self.runs.seeds, self.runs.values(key).tolist(), strict=True))
        return self._by_seed[key]

    def describe(self, key: str) -> Description:
        """Mean and sd over seeds of a score. A run that scored nothing at all makes the mean undefined: leaving it
        out would reward the divergence."""
        if key not in self._described:
            scored = all(part.condition.scored for part in self.runs.parts)
            self._described[key] = describe(self.runs.values(key) if scored else [])
        return self._described[key]

    def class_iou(self, name: str) -> Description:
        """Mean and sd over seeds of a class's IoU in percent (seeds where it is absent left out)."""
        return describe(self.runs.class_iou.get(name, []))

    @cached_property
    def delta(self) -> Paired | None:
        """mIoU minus the reference's, in points, paired over seeds; None without a reference or a common seed."""
        if self.reference is None or self.is_reference:
            return None
        return paired_difference(self.by_seed("miou"), self.reference.by_seed("miou"))

    @property
    def differences(self) -> list[float] | None:
        """What `delta` is the mean of, by seed in its order; None of the reference, and without a common seed."""
        if self.delta is None or self.reference is None:
            return None
        ours, theirs = self.by_seed("miou"), self.reference.by_seed("miou")
        return [ours[seed] - theirs[seed] for seed in self.delta.seeds]

    @cached_property
    def tested(self) -> Tested | None:
        """The tests on the differences of `delta`; None where they are not asked for or there are fewer than two."""
        return None if self.margin is None else compare(self.delta, self.margin)

    @cached_property
    def time_ratio(self) -> float | None:
        """Median over common seeds of the ratio of ms per step, among runs on equal machines."""
        if self.reference is None:
            return None
        ours, theirs = self.by_seed("ms_per_step"), self.reference.by_seed("ms_per_step")
        if len({*self.runs.machines, *self.reference.runs.machines}) > 1:
            where = dict(zip(self.reference.runs.seeds, self.reference.runs.machines, strict=True))
            pairs = zip(ours.items(), self.runs.machines, strict=True)
            ours = {seed: ms for (seed, ms), machine in pairs if where.get(seed) == machine}
        return paired_ratio(ours, theirs)

    def value(self, key: str) -> float:
        """The number a table prints and sorts by: a mean, a median for costs. NaN where there is none."""
        if key == "delta":
            return math.nan if self.delta is None else self.delta.mean
        if key == "time_ratio":
            return math.nan if self.time_ratio is None else self.time_ratio
        if key in COSTS:
            if key not in self._medians:
                values = self.runs.values(key)
                self._medians[key] = median(values[~np.isnan(values)])
            return self._medians[key]
        return self.describe(key).mean


@dataclass
class Block:
    """Rows that may be compared, sorted, and what a reader must know about them.

    `hidden` are rows that a choice of losses leaves out. `published` are tables of papers shown beside the rows: no
    rank, best mark, difference or statistic knows of them.
    """

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
    hidden: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    published: list[PublishedTable] = field(default_factory=list)
    test: Test | None = None
    resamples: int | None = None
    #: "as is" or "tuned" where there are both.
    track: str = ""

    @property
    def dataset_name(self) -> str:
        """The plugin's name, without its parameters."""
        return str(self._cell["dataset"]["name"])

    @property
    def dataset_params(self) -> dict[str, Any]:
        """All parameters of the dataset, those at their defaults too."""
        return dict(self._cell["dataset"]["params"])

    @property
    def backbone_name(self) -> str:
        return str(self._cell["backbone"]["name"])

    @property
    def _cell(self) -> Mapping[str, Any]:
        return self.rows[0].runs.parts[0].condition.cell

    @property
    def title(self) -> str:
        track = f", {self.track}" if self.track else ""
        return f"{self.dataset} / {self.backbone}{track}" + (f" ({self.variant})" if self.variant else "")

    @property
    def margin(self) -> float | None:
        """Of the equivalence tests, in points; None where they are not asked for."""
        return self.rows[0].margin

    def ask_tests(self, margin: float) -> None:
        """Have every row tested for equivalence within ±`margin` points."""
        for row in self.rows:
            row.margin = margin

    def ask_significance(self, test: Test) -> None:
        """Have every row's difference tested, with Holm's correction over all rows, hidden ones too: rows chosen after
        a look at the table were all looked at."""
        self.test = test
        rows = [*self.rows, *self.hidden]
        for row, found in zip(rows, of_rows([row.differences for row in rows], test), strict=True):
            row.significance = found

    @property
    def has_reference(self) -> bool:
        return any(row.reference is not None for row in self.rows)

    @property
    def reference_name(self) -> str:
        """Short name of the reference for headers: without its parameters."""
        return self.reference.partition("(")[0]

    @property
    def parts(self) -> list[Part]:
        return [part for row in self.rows for part in row.runs.ordered_parts]

    @property
    def machines(self) -> set[str]:
        return {part.condition.machine for part in self.parts}

    def best(self, key: str) -> float | None:
        """The best value of a column as printed; None where the column has no better side, where there is no
        competition, and for costs taken on different machines."""
        higher = COLUMNS[key].higher
        if higher is None or (key in COSTS and len(self.machines) > 1):
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
