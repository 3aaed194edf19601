"""Training loss and validation mIoU over the optimiser steps: mean and spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lossbench.figures.choice import in_order, label, unmarked
from lossbench.figures.style import GREY, PAPER_WIDTH, Look, legend_above, legend_height
from lossbench.standings import Block

#: Share of the points of a training curve that are averaged into one: single batches are noise.
SMOOTHING = 0.05
LOSS, MIOU = "loss", "miou"


@dataclass(frozen=True)
class Line:
    """A curve over the seeds of one loss.

    Attributes:
        steps: (n), rising.
        mean, sd: (n) over the seeds that got so far; sd is NaN where that is one.
        n: number of seeds.
    """

    label: str
    steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    n: int

    def to_json(self) -> dict[str, Any]:
        def plain(values: NDArray[np.float64]) -> list[float | None]:
            return [value if math.isfinite(value) else None for value in values.tolist()]

        return {
            "loss": unmarked(self.label),
            "step": self.steps.tolist(),
            "mean": plain(self.mean),
            "sd": plain(self.sd),
        }


Curve = Mapping[str, Sequence[float]]


def smooth(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Means over the `window` values around each (fewer at the ends); what is not finite is left out of them."""
    array = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(array)
    kernel = np.ones(min(window, max(len(array), 1)))
    if not len(array):
        return array
    total = np.convolve(np.where(finite, array, 0.0), kernel, "same")
    number = np.convolve(finite.astype(np.float64), kernel, "same")
    means: NDArray[np.float64] = np.full(len(array), np.nan)
    np.divide(total, number, out=means, where=finite & (number > 0.5))
    return means


def over_seeds(name: str, curves: Sequence[tuple[Sequence[float], NDArray[np.float64]]]) -> Line | None:
    """One line of the (steps, values) of several seeds; None when there is no value."""
    steps = sorted({step for own, _ in curves for step in own})
    place = {step: index for index, step in enumerate(steps)}
    table = np.full((len(curves), len(steps)), np.nan)
    for row, (own, values) in enumerate(curves):
        table[row, [place[step] for step in own]] = values
    number = np.isfinite(table).sum(axis=0)
    kept = number > 0
    if not kept.any():
        return None
    table, number = table[:, kept], number[kept]
    mean = np.nansum(table, axis=0) / number
    squares = np.nansum((table - mean) ** 2, axis=0)
    sd = np.sqrt(np.divide(squares, number - 1, out=np.full(len(mean), np.nan), where=number > 1))
    return Line(name, np.asarray(steps, dtype=np.float64)[kept], mean, sd, len(curves))


def lines(block: Block, read: Callable[[Path], Curve], reference: str = "ce") -> dict[str, list[Line | None]]:
    """Training loss (smoothed) and validation mIoU in percent of every loss, in the order of all figures.

    Args:
        read: the learning curve of the record in a file (`Record.curve`).
    """
    found: dict[str, list[Line | None]] = {LOSS: [], MIOU: []}
    for row in in_order(block, reference):
        curves = [read(row.runs.table.path(index)) for index in row.runs.rows.tolist()]
        window = max(1, round(SMOOTHING * max(len(curve.get("step", ())) for curve in curves)))
        losses = [(curve.get("step", ()), smooth(curve.get("loss", ()), window)) for curve in curves]
        found[LOSS].append(over_seeds(label(row), losses))
        scores = [
            (curve.get("eval_step", ()), 100 * np.asarray(curve.get("eval_miou", ()), np.float64)) for curve in curves
        ]
        found[MIOU].append(over_seeds(label(row), scores))
    return found


def relative(given: Sequence[Line | None]) -> tuple[list[Line | None], str]:
    """Lines to draw, and what they are. Losses of different formulas have different units: several of them are shown
    in units of their own start, unless one of them starts at or below 0."""
    own = [line for line in given if line is not None]
    if len(own) < 2 or any(line.mean[0] <= 0 for line in own):
        return list(given), "training loss"
    scaled = [
        None if line is None else replace(line, mean=line.mean / line.mean[0], sd=line.sd / line.mean[0])
        for line in given
    ]
    return scaled, "training loss / loss at the start"


def draw(found: Mapping[str, Sequence[Line | None]], *, width: float = PAPER_WIDTH) -> Figure:
    """Training loss, and beside it validation mIoU where any run was scored on the way."""
    scored = any(line is not None for line in found[MIOU])
    height = 2.3 + legend_height([line.label for line in found[LOSS] if line is not None] or [""], width)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, 2 if scored else 1, squeeze=False)[0]
    shown, what = relative(found[LOSS])
    handles = _draw(axes[0], shown, marks=False)
    wide = _wide([line.mean for line in shown if line is not None])
    if wide:
        axes[0].set_yscale("log")
    elif all((line.mean >= 0).all() for line in shown if line is not None):
        axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel(what + " (log scale)" * wide)
    if scored:
        handles |= _draw(axes[1], found[MIOU], marks=True)  # marks in the legend, too
        axes[1].set_ylabel("validation mIoU (%)")
        axes[1].set_ylim(bottom=0)
    for each in axes:
        each.set_xlabel("optimiser step")
        each.set_xlim(left=0)
    legend_above(figure, list(handles.values()), list(handles))
    return figure


def _draw(axes: Axes, given: Sequence[Line | None], *, marks: bool) -> dict[str, Any]:
    """Lines with their bands; returns what the legend shows, by label."""
    handles: dict[str, Any] = {}
    for place, line in enumerate(given):
        if line is None:
            continue
        look = Look.of(place)
        mark = look.mark(3.5) if marks else {}
        (handles[line.label],) = axes.plot(
            line.steps, line.mean, color=look.color, linestyle=look.dashes, zorder=3, **mark
        )
        if np.isfinite(line.sd).any():
            low, high = line.mean - line.sd, line.mean + line.sd
            axes.fill_between(line.steps, low, high, color=look.color, alpha=0.15, linewidth=0, zorder=2)
    if not handles:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=GREY)
    return handles


def _wide(values: Sequence[NDArray[np.float64]]) -> bool:
    """Whether a log scale is called for: all positive, over more than a factor of 20."""
    if not values:
        return False
    joined = np.concatenate(values)
    return bool(joined.min() > 0 and joined.max() > 20 * joined.min())
