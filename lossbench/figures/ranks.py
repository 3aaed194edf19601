"""Critical-difference diagram (Demšar 2006, fig. 1): mean ranks on a line, bars over losses that are not told apart."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lossbench.figures.style import FAINT, GREY, INK, LEGEND, SMALL, shortened
from lossbench.ranking import Ranking

#: Inches: of a line of text, of a bar over a clique, of the scale and what stands above it.
_LINE, _BAR, _TOP = 0.16, 0.09, 0.62


def draw(ranking: Ranking, *, width: float) -> Figure:
    """The best losses on the left, the worst on the right, as far as there are two sides; it needs a critical
    difference."""
    assert ranking.critical is not None
    losses, ranks = shortened(ranking.losses), ranking.mean_ranks
    left = -(-len(losses) // 2)
    bars = len(ranking.cliques) * _BAR
    height = _TOP + bars + _LINE * left + 0.2
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    lowest, highest = 1.0, float(len(losses))
    margin = 0.31 * width

    def place(rank: float) -> float:
        return margin + (width - 2 * margin) * (rank - lowest) / (highest - lowest)

    axes.plot([place(lowest), place(highest)], [_TOP, _TOP], color=INK, linewidth=0.8)
    step = max(1, round(len(losses) / 8))
    for rank in [*range(1, len(losses) + 1, step)]:
        axes.plot([place(rank)] * 2, [_TOP, _TOP - 0.05], color=INK, linewidth=0.8)
        axes.text(place(rank), _TOP - 0.08, str(rank), ha="center", va="bottom", fontsize=SMALL)
    _scale(axes, place(lowest), place(lowest + ranking.critical), ranking.critical)
    for number, (first, last) in enumerate(ranking.cliques):
        y = _TOP + 0.07 + _BAR * number
        axes.plot([place(ranks[first]) - 0.03, place(ranks[last]) + 0.03], [y, y], color="#0072B2", linewidth=2.2,
                  solid_capstyle="butt")  # fmt: skip
    for index, (name, rank) in enumerate(zip(losses, ranks, strict=True)):
        on_left = index < left
        line = index if on_left else len(losses) - 1 - index
        y = _TOP + bars + 0.14 + _LINE * line
        end = margin - 0.1 if on_left else width - margin + 0.1
        axes.plot([place(rank), place(rank), end], [_TOP, y, y], color=GREY, linewidth=0.6, solid_joinstyle="miter")
        axes.text(
            end + (-0.04 if on_left else 0.04), y, f"{name}  {rank:.2f}" if on_left else f"{rank:.2f}  {name}",
            ha="right" if on_left else "left", va="center", fontsize=LEGEND,
        )  # fmt: skip
    return figure


def _scale(axes: Axes, start: float, end: float, critical: float) -> None:
    y = 0.2
    axes.plot([start, end], [y, y], color=INK, linewidth=1.2)
    for x in (start, end):
        axes.plot([x, x], [y - 0.04, y + 0.04], color=INK, linewidth=1.2)
    axes.text((start + end) / 2, y - 0.05, f"critical difference {critical:.2f}", ha="center", va="bottom",
              fontsize=SMALL, bbox={"facecolor": "white", "edgecolor": FAINT, "linewidth": 0, "pad": 0.5})  # fmt: skip
