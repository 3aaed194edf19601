"""Gain of one loss over another per class, along the class's share of the training pixels."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lossbench.contrast import Contrast
from lossbench.figures.style import GREY, INK, SMALL

_COLOR = "#0072B2"


def draw(found: Contrast, *, width: float) -> Figure:
    """A point a class with its 95 % interval, on a logarithmic axis of shares, rare classes to the right; the line is
    the mean of the slopes per seed, through the middle of the points."""
    classes = [gain for gain in found.classes if gain.gain is not None and gain.share > 0]
    shares = np.array([gain.share for gain in classes])
    means = np.array([gain.gain.mean for gain in classes if gain.gain is not None])
    halves = np.array([(gain.gain.half_width or 0.0) for gain in classes if gain.gain is not None])
    figure = Figure(figsize=(width, min(0.48 * width, 3.2)), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.axhline(found.miou.mean, color=GREY, linewidth=0.6, linestyle=(0, (4, 2)))
    axes.errorbar(shares, means, halves, fmt="o", color=_COLOR, markersize=4, elinewidth=1, capsize=2)
    axes.set_xscale("log")
    pad = 1.35
    axes.set_xlim(shares.max() * pad, shares.min() / pad)  # commonest first, as in the tables
    if found.slope is not None:
        along = np.geomspace(shares.max(), shares.min(), 50)
        middle = means.mean() - found.slope.mean * np.log10(shares).mean()
        axes.plot(along, middle + found.slope.mean * np.log10(along), color=_COLOR, linewidth=1, alpha=0.45)
    for gain, share, mean in zip(classes, shares, means, strict=True):
        axes.annotate(gain.name, (share, mean), (4, 3), textcoords="offset points", fontsize=SMALL, color=INK)
    axes.annotate("mIoU", (1, found.miou.mean), (-2, 2), xycoords=("axes fraction", "data"), ha="right",
                  textcoords="offset points", fontsize=SMALL, color=GREY)  # fmt: skip
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel="share of the training pixels, % (log scale)", ylabel=f"IoU minus that of {found.theirs}, points")
    return figure
