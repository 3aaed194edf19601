"""IoU per class, one bar (or mark) per loss with its spread over seeds, frequent classes first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lossbench.figures.choice import in_order, label, unmarked
from lossbench.figures.style import BAND, GREY, INK, PAPER_WIDTH, Look, legend_above, legend_height, text_width
from lossbench.standings import Block

Style = Literal["bars", "dots"]
#: Inches: the least a bar and a mark take, what is left free between classes, and what axis labels take.
_LEAST: dict[Style, float] = {"bars": 0.04, "dots": 0.027}
_BETWEEN, _MARGIN = 0.08, 0.5
MEAN = "mean"


@dataclass(frozen=True)
class ClassScores:
    """IoU of L losses for C classes in percent, the classes by training pixels, commonest first.

    Attributes:
        shares: (C) training pixels of each class in percent of all labelled ones.
        mean, sd: (L, C) over seeds; NaN where a class is absent, and for the sd of one seed.
        numbers: (L, C) of seeds in them: those in which the class is not absent.
        miou, miou_sd: (L).
        seeds: (L) number of runs.
    """

    classes: list[str]
    shares: NDArray[np.float64]
    losses: list[str]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    numbers: NDArray[np.int64]
    miou: NDArray[np.float64]
    miou_sd: NDArray[np.float64]
    seeds: list[int]

    def to_json(self) -> list[dict[str, Any]]:
        """Tidy: one entry per loss and class."""
        return [
            {
                "loss": unmarked(loss),
                "class": name,
                "train_percent": float(self.shares[c]),
                "iou": _plain(self.mean[i, c]),
                "sd": _plain(self.sd[i, c]),
                "n": int(self.numbers[i, c]),
            }
            for i, loss in enumerate(self.losses)
            for c, name in enumerate(self.classes)
        ]


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def class_scores(block: Block, reference: str = "ce") -> ClassScores:
    """The numbers of the figure."""
    rows = in_order(block, reference)
    pixels = np.asarray(block.train_pixels, dtype=np.float64)
    order = np.argsort(-pixels, kind="stable")
    names = [block.class_names[index] for index in order.tolist()]
    described = [[row.class_iou(name) for name in names] for row in rows]
    overall = [row.describe("miou") for row in rows]

    def spread(value: float | None) -> float:
        return math.nan if value is None else value

    return ClassScores(
        classes=names,
        shares=100 * pixels[order] / pixels.sum() if pixels.sum() else np.full(len(pixels), np.nan),
        losses=[label(row) for row in rows],
        mean=np.array([[d.mean for d in line] for line in described]),
        sd=np.array([[spread(d.sd) for d in line] for line in described]),
        numbers=np.array([[d.n for d in line] for line in described]),
        miou=np.array([d.mean for d in overall]),
        miou_sd=np.array([spread(d.sd) for d in overall]),
        seeds=[row.n for row in rows],
    )


def default_style(losses: int, classes: int, width: float = PAPER_WIDTH) -> Style:
    """Bars while all classes with bars wide enough to tell apart fit into one row; else marks."""
    return "bars" if losses <= 8 and (classes + 1) <= _per_row(losses, width, "bars") else "dots"


def _per_row(losses: int, width: float, style: Style) -> int:
    """Slots (classes, and the mean) that fit into one row of axes."""
    slot = max(losses * _LEAST[style] + _BETWEEN, 0.26)
    return max(1, int((width - _MARGIN) / slot))


def draw(scores: ClassScores, *, width: float = PAPER_WIDTH, style: Style | None = None) -> Figure:
    """The figure; more classes than fit side by side go on in further rows of axes."""
    losses, slots = len(scores.losses), len(scores.classes) + 1
    style = style or default_style(losses, slots - 1, width)
    rows = -(-slots // _per_row(losses, width, style))
    columns = -(-slots // rows)
    size = _name_size(scores.classes, (width - _MARGIN) / columns)
    name_height = 0.15 if size else 0.75 * max(text_width(name, 7) for name in scores.classes)
    height = legend_height(scores.losses, width) + 0.15 + rows * (1.75 + 0.15 + name_height)
    figure = Figure(figsize=(width, height), layout="constrained")
    all_axes = figure.subplots(rows, 1, sharey=True, squeeze=False)[:, 0]
    # The mean is the last class, of no frequency.
    mean = np.column_stack([scores.mean, scores.miou])
    sd = np.column_stack([scores.sd, scores.miou_sd])
    names, shares = [*scores.classes, MEAN], [*scores.shares.tolist(), math.nan]
    handles: list[Any] = []
    for row, axes in enumerate(all_axes):
        part = slice(row * columns, min((row + 1) * columns, slots))
        handles = _row(axes, mean[:, part], sd[:, part], style, (width - _MARGIN) / columns)
        _name_classes(axes, names[part], shares[part], size)
        if row == 0:
            axes.set_title("share of the training pixels (%)", fontsize=6, color=GREY, pad=12)
        axes.set_xlim(-0.5, columns - 0.5)
    all_axes[0].set_ylim(_limits(mean, np.nan_to_num(sd), style))
    legend_above(figure, handles, scores.losses)
    return figure


def _row(axes: Axes, mean: NDArray[Any], sd: NDArray[Any], style: Style, slot: float) -> list[Any]:
    """One row of axes, `slot` inches a class; returns what the legend shows of each loss."""
    losses, slots = mean.shape
    for place in range(1, slots, 2):
        axes.axvspan(place - 0.5, place + 0.5, color=BAND, zorder=0, linewidth=0)
    axes.set_ylabel("IoU (%)")
    step = 0.84 / losses
    inches = step * slot
    handles: list[Any] = []
    for i in range(losses):
        look = Look.of(i)
        x = np.arange(slots) + (i - (losses - 1) / 2) * step
        ends = np.stack([np.minimum(sd[i], mean[i]), sd[i]])  # no IoU is below 0
        whiskers = {"ecolor": INK, "elinewidth": 0.6, "capsize": min(1.5, 20 * inches), "capthick": 0.6}
        if style == "bars":
            bars = axes.bar(
                x, mean[i], step, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0.3, zorder=2
            )
            axes.errorbar(x, mean[i], ends, fmt="none", zorder=3, **whiskers)
            handles.append(bars)
        else:
            whiskers |= {"ecolor": look.color, "capsize": 0}
            mark = look.mark(min(4.0, max(2.4, 90 * inches)))
            points: ErrorbarContainer = axes.errorbar(
                x, mean[i], ends, linestyle="none", zorder=3, clip_on=False, **mark, **whiskers
            )
            handles.append(points)
    for place in np.flatnonzero(np.isnan(mean).all(axis=0)).tolist():
        axes.annotate(
            "absent",
            (place, 0.02),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="center",
            va="bottom",
            color=GREY,
            fontsize=6,
        )
    return handles


def _limits(mean: NDArray[Any], sd: NDArray[Any], style: Style) -> tuple[float, float]:
    """Whole tens around all whiskers. Bars begin at 0: their lengths are compared."""
    low, high = np.nanmin(mean - sd, initial=100.0), np.nanmax(mean + sd, initial=1.0)
    bottom = 0.0 if style == "bars" else max(0.0, 10 * math.floor((low - 0.5) / 10))
    return bottom, min(100.0, 10 * math.ceil((high + 0.5) / 10))


def _name_size(names: Sequence[str], slot: float) -> float | None:
    """The largest type in which all names fit side by side, two words on two lines; None: turn them."""
    for size in (7.0, 6.5, 6.0):
        if max(text_width(_broken(name), size) for name in names) + 0.03 <= slot:
            return size
    return None


def _broken(name: str) -> str:
    """A name on two lines where it has two words."""
    return name.replace("_", " ").replace(" ", "\n", 1)


def _name_classes(axes: Axes, names: Sequence[str], shares: Sequence[float], size: float | None) -> None:
    """Names below, turned without a size; each class's share of the training pixels above the axes."""
    axes.grid(visible=False, axis="x")
    places = list(range(len(names)))
    if size is None:
        axes.set_xticks(places, names, rotation=38, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(places, [_broken(name) for name in names], fontsize=size)
    axes.tick_params(axis="x", length=0, pad=3)
    for tick, name in zip(axes.get_xticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name == MEAN else "normal")
    above = axes.secondary_xaxis("top")
    above.set_xticks(places, [_share(share) for share in shares])
    above.tick_params(length=0, pad=1, labelsize=6, labelcolor=GREY)
    above.spines["top"].set_visible(False)


def _share(percent: float) -> str:
    """Two figures: 32, 4.1, 0.60, 0.035."""
    if math.isnan(percent):
        return ""
    if percent >= 9.95:
        return f"{percent:.0f}"
    return f"{percent:.1f}" if percent >= 0.995 else f"{percent:.2f}" if percent >= 0.0995 else f"{percent:.2g}"
