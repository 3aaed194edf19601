"""The whole curve of equal tuning: hold-out mIoU of every trial over the searched rate, and of the best of n trials."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lossbench.figures.style import Look, legend_above, legend_height
from lossbench.tuning.choice import expected_best
from lossbench.tuning.curves import Group, by_first


def draw(group: Group, *, width: float) -> Figure:
    """Left: every trial, the choice ringed, the loss as is marked by a cross. Right: what fewer trials would have found
    (Dodge et al. 2019)."""
    names = [curve.loss for curve in group.curves]
    figure = Figure(figsize=(width, min(0.36 * width, 2.6) + legend_height(names, width)), layout="constrained")
    left, right = figure.subplots(1, 2)
    handles = []
    for place, curve in enumerate(group.curves):
        look = Look.of(place)
        known = [trial for trial in by_first(group, curve) if trial.score is not None]
        xs = [trial.setting[group.first] for trial in known]
        ys = [100 * (trial.score or 0.0) for trial in known]
        numeric = all(isinstance(x, int | float) for x in xs)
        line = "-" if numeric and len(curve.space) == 1 else "none"
        left.plot(xs, ys, color=look.color, linestyle=line, linewidth=0.8, **look.mark(3.5))
        for trial, x, y in zip(known, xs, ys, strict=True):
            if curve.chosen is not None and trial.number == curve.chosen.number:
                left.plot([x], [y], "o", markersize=8, markerfacecolor="none", markeredgecolor=look.color)
            if trial.number == 0:
                left.plot([x], [y], "x", markersize=6, color=look.color)
        if curve.complete:
            expected = expected_best(curve.scores)
            numbers = np.arange(1, len(expected) + 1)
            right.plot(numbers, expected, color=look.color, linestyle=look.dashes, **look.mark(3))
        handles.append(Line2D([], [], color=look.color, linewidth=0.8, **look.mark(3.5)))
    if any(dimension.name == group.first and dimension.log for dimension in group.curves[0].space):
        left.set_xscale("log")
    left.set(xlabel=f"{group.first} of the trial", ylabel="hold-out mIoU, %")
    right.set(xlabel="number of trials n", ylabel="expected best of n, %")
    legend_above(figure, handles, names)
    return figure
