"""What losses told of themselves over training: the diagnostics in the records, over seeds. Pure; knows no name.

A diagnostic is whatever a loss logs (see `training/diagnostics.py`): one number at each log point, or one number per
class at some of them. Each number is of one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lossbench.records import Record
from lossbench.standings import Block, Row
from lossbench.statistics import Description, describe

#: Log points that are shown: the first, the one nearest to the middle of the steps, the last.
POINTS = ("start", "middle", "end")
#: The steps of values per class: no diagnostic itself.
CLASS_STEPS = "class_steps"


@dataclass(frozen=True)
class Told:
    """The diagnostics of one loss over its seeds.

    Attributes:
        row: the loss.
        steps: of each of POINTS, over the seeds.
        scalars: by name, a description over seeds for each of POINTS.
        classes: by name, a description over seeds for each class, of the mean over a run's class points.
        class_points: number of class points of a run, over the seeds.
    """

    row: Row
    steps: tuple[frozenset[int], ...]
    scalars: Mapping[str, tuple[Description, ...]]
    classes: Mapping[str, tuple[Description, ...]]
    class_points: frozenset[int]


@dataclass(frozen=True)
class Diagnosis:
    """A block's losses that told anything, in the block's order; `silent` are the labels of the others."""

    block: Block
    told: Sequence[Told]
    silent: Sequence[str]

    @property
    def scalars(self) -> list[str]:
        """Names, in the order in which losses log them."""
        return list(dict.fromkeys(name for told in self.told for name in told.scalars))

    @property
    def classes(self) -> list[str]:
        return list(dict.fromkeys(name for told in self.told for name in told.classes))


def diagnose(block: Block, read: Callable[[Path], Record]) -> Diagnosis:
    """The diagnostics of all rows of a block.

    Args:
        read: the record in a file, e.g. `readmany.read_record`.
    """
    told, silent = [], []
    for row in block.rows:
        records = [read(row.runs.table.path(index)) for index in row.runs.rows.tolist()]
        found = of_row(row, records)
        if found.scalars or found.classes:
            told.append(found)
        else:
            silent.append(row.label)
    return Diagnosis(block, told, silent)


def of_row(row: Row, records: Sequence[Record]) -> Told:
    """The diagnostics of a loss's records, one per seed."""
    names = list(dict.fromkeys(name for record in records for name in record.diagnostics if name != CLASS_STEPS))
    places = [log_points(record.curve.get("step", ())) for record in records]
    scalars, classes = {}, {}
    for name in names:
        series = [record.diagnostics.get(name) for record in records]
        if any(is_per_class(each) for each in series):
            count = len(records[0].class_names)
            means = [class_means(each, count) for each in series if is_per_class(each)]
            classes[name] = tuple(describe(np.array([mean[index] for mean in means])) for index in range(count))
        else:
            told = zip(series, places, strict=True)
            values = [at_points(each, place) for each, place in told if isinstance(each, list) and each]
            if values:
                scalars[name] = tuple(describe(point) for point in zip(*values, strict=True))
    steps = [
        [int(record.curve["step"][index]) for index in place] for record, place in zip(records, places, strict=True)
    ]
    return Told(
        row=row,
        steps=tuple(frozenset(point) for point in zip(*(own for own in steps if own), strict=True)),
        scalars=scalars,
        classes={name: found for name, found in classes.items() if any(each.n for each in found)},
        class_points=frozenset(len(record.diagnostics.get(CLASS_STEPS, ())) for record in records),
    )


def log_points(steps: Sequence[float]) -> list[int]:
    """The indices of POINTS among rising steps; empty without steps."""
    if not len(steps):
        return []
    middle = (steps[0] + steps[-1]) / 2
    return [0, min(range(len(steps)), key=lambda index: abs(steps[index] - middle)), len(steps) - 1]


def is_per_class(series: Any) -> TypeGuard[list[Any]]:
    return isinstance(series, list) and any(isinstance(value, list) for value in series)


def at_points(series: Sequence[float | None], places: Sequence[int]) -> list[float]:
    """The values at POINTS, NaN for those that are missing. A series that is shorter than the curve ends early (the
    loss began to log it late, or stopped): which step a value is of cannot be told, so only whole ones are read."""
    if not places or len(series) != places[-1] + 1:
        return [math.nan] * len(POINTS)
    return [_number(series[place]) for place in places]


def class_means(series: Sequence[Any], classes: int) -> NDArray[np.float64]:
    """(classes,) means over the class points; a point without a pixel of the class is left out; NaN without any.
    Points with another number of values are not of the classes: they are left out, too."""
    points = [[_number(value) for value in point] for point in series if isinstance(point, list)]
    points = [point for point in points if len(point) == classes]
    if not points:
        return np.full(classes, np.nan)
    return np.array([describe(values).mean for values in np.array(points).T])


def _number(value: Any) -> float:
    """NaN was written as null."""
    return float(value) if isinstance(value, int | float) else math.nan
