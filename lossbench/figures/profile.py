"""Performance profile (Dolan & Moré 2002; Agarwal et al. 2021): the share of runs above a score, for every score."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lossbench.aggregates import Floats, performance_profile
from lossbench.figures.style import GREY, Look, legend_above, legend_height
from lossbench.ranking import Ranking

_POINTS = 201
#: Per cent of the reference: what lies below is no difference of losses but a failure.
_LOWEST = 80.0


def levels(ranking: Ranking) -> Floats:
    """Relative scores, in percent of the reference, from the lowest worth drawing to the highest of any run.
    The reference's own runs lie around 100."""
    scores = np.concatenate([found.ravel() for found in ranking.relative])
    near = scores[scores >= _LOWEST]
    low, high = float(near.min()), float(near.max())
    pad = 0.02 * (high - low) or 1.0
    return np.linspace(low - pad, high + pad, _POINTS)


def draw(ranking: Ranking, *, width: float) -> Figure:
    """One step line per loss, in the look it has in all figures: the reference first, then as ranked."""
    names = [ranking.reference, *(name for name in ranking.losses if name != ranking.reference)]
    along, shares = levels(ranking), performance_profile(ranking.relative, levels(ranking))
    figure = Figure(figsize=(width, min(0.45 * width, 2.9) + legend_height(names, width)), layout="constrained")
    axes = figure.add_subplot()
    handles = []
    for place, name in enumerate(names):
        look = Look.of(place)
        (line,) = axes.plot(
            along, 100 * shares[ranking.losses.index(name)], color=look.color, linestyle=look.dashes,
            linewidth=1.6 if place == 0 else 1.1, drawstyle="steps-pre", zorder=3 if place == 0 else 2,
        )  # fmt: skip
        handles.append(line)
    axes.axvline(100, color=GREY, linewidth=0.5, zorder=1)
    axes.set(
        xlabel=f"mIoU, % of the mean of {ranking.reference} in the same block", ylabel="runs above, %",
        xlim=(along[0], along[-1]), ylim=(-2, 102),
    )  # fmt: skip
    legend_above(figure, handles, names)
    return figure
