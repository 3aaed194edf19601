"""Image, truth and every loss's prediction side by side, one row per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from lossbench.figures.kept import Shown
from lossbench.figures.overlay import prediction_picture, resized, truth_picture
from lossbench.figures.style import GREY, INK, PAPER_WIDTH, SMALL, by_rows, legend_columns, shortened, text_width

#: Inches: least width of a panel, gaps, a line of small type, a row of the legend.
_LEAST, _GAP, _LINE, _LEGEND_ROW = 0.675, 0.04, 0.115, 0.125
_EDGE = 0.01
#: Pixels of a panel for each inch: twice what is printed, so that outlines stay sharp.
_RESOLUTION = 600
#: Inches of an outline.
_OUTLINE = 0.005


@dataclass(frozen=True)
class Legend:
    """Classes by name and RGB colour, and the id of pixels that count nowhere."""

    classes: Sequence[str]
    colors: Sequence[tuple[int, int, int]]
    ignore: int


@dataclass(frozen=True)
class _Grid:
    """Where panels lie: `columns` side by side; an image's panels go on below when there are more."""

    width: float
    columns: int
    lines: int

    @property
    def panel(self) -> float:
        return (self.width - 2 * _EDGE - (self.columns - 1) * _GAP) / self.columns

    def left(self, place: int) -> float:
        return _EDGE + (place % self.columns) * (self.panel + _GAP)


def default_columns(panels: int, width: float) -> int:
    """As many as are wide enough, the lines evenly filled."""
    fitting = max(2, min(panels, int((width + _GAP) / (_LEAST + _GAP))))
    lines = -(-panels // fitting)
    return -(-panels // lines)


def draw(images: Sequence[Shown], legend: Legend, *, width: float = PAPER_WIDTH, columns: int | None = None) -> Figure:
    """The figure. Regions where a prediction is wrong are hatched and outlined.

    Args:
        columns: panels side by side; default: as many as are wide enough to see something.
    """
    labels = list(images[0].predictions)
    panels = 2 + len(labels)
    columns = min(columns or default_columns(panels, width), panels)
    grid = _Grid(width, columns, -(-panels // columns))
    titles = [_broken(text, grid.panel) for text in ("image", "ground truth", *shortened(labels))]
    size = min(SMALL, SMALL * (grid.panel + _GAP / 2) / max(text_width(title, SMALL) for title in titles))
    head = [_LINE * (1 + max(title.count("\n") for title in line)) + 0.03 for line in _lines(titles, grid)]
    heights = [grid.panel * shown.truth.shape[0] / shown.truth.shape[1] for shown in images]
    handles, names = _legend_entries(legend, images)
    entries = legend_columns(names, width, SMALL)
    legend_rows = -(-len(names) // entries)
    # With several lines per image every line needs its titles; else the top row's serve all.
    repeated = grid.lines > 1
    total = sum(head) * (len(images) if repeated else 1) + legend_rows * _LEGEND_ROW + 0.04
    total += sum((height + _LINE + _GAP) * grid.lines for height in heights)
    figure = Figure(figsize=(width, total))
    top = total
    for row, (shown, height) in enumerate(zip(images, heights, strict=True)):
        pictures = _pictures(shown, labels, legend, grid.panel)
        notes = ["", "", *(f"mIoU {shown.miou[name]:.1f}" for name in labels)]
        for line in range(grid.lines):
            titled = repeated or row == 0
            top -= head[line] if titled else 0
            for place in range(line * columns, min((line + 1) * columns, panels)):
                axes = figure.add_axes(
                    (grid.left(place) / width, (top - height) / total, grid.panel / width, height / total)
                )
                _panel(axes, pictures[place], titles[place] if titled else "", size, notes[place])
            top -= height + _LINE + _GAP
    figure.legend(
        by_rows(handles, entries), by_rows(names, entries), loc="lower center", ncols=entries, fontsize=SMALL,
        bbox_to_anchor=(0.5, 0), borderaxespad=0.1, handlelength=1.3, handleheight=0.9, columnspacing=1.0,
    )  # fmt: skip
    return figure


def _pictures(shown: Shown, labels: Sequence[str], legend: Legend, panel: float) -> list[NDArray[np.uint8]]:
    width = round(panel * _RESOLUTION)
    truth = resized(shown.truth, width)
    line = max(1, round(_OUTLINE * _RESOLUTION))
    return [
        shown.image,
        truth_picture(truth, legend.colors, legend.ignore),
        *(
            prediction_picture(resized(shown.predictions[name], width), truth, legend.colors, legend.ignore, line=line)
            for name in labels
        ),
    ]


def _panel(axes: Axes, picture: NDArray[np.uint8], title: str, size: float, note: str) -> None:
    axes.imshow(picture, interpolation="antialiased", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.4, color=GREY)
    if title:
        axes.set_title(title, fontsize=size, pad=2.5, linespacing=1.0)
    if note:
        axes.text(0.5, -0.02, note, transform=axes.transAxes, ha="center", va="top", fontsize=6, color=INK)


def _legend_entries(legend: Legend, images: Sequence[Shown]) -> tuple[list[Patch], list[str]]:
    """Classes that occur in some panel, then what the marks mean."""
    seen = np.zeros(256, bool)
    for shown in images:
        for labels in (shown.truth, *shown.predictions.values()):
            seen[np.unique(labels)] = True
    handles: list[Patch] = []
    names: list[str] = []
    for index, (name, color) in enumerate(zip(legend.classes, legend.colors, strict=True)):
        if seen[index]:
            handles.append(Rectangle((0, 0), 1, 1, facecolor=_rgb(color), edgecolor=GREY, linewidth=0.3))
            names.append(name)
    if seen[legend.ignore]:
        handles.append(Rectangle((0, 0), 1, 1, facecolor="white", edgecolor="#aaaaaa", hatch="//////", linewidth=0.3))
        names.append("ignored")
    handles.append(Rectangle((0, 0), 1, 1, facecolor="white", edgecolor="black", hatch="\\\\\\\\\\", linewidth=0.9))
    names.append("wrong")
    return handles, names


def _rgb(color: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = color
    return red / 255, green / 255, blue / 255


def _lines(titles: Sequence[str], grid: _Grid) -> list[Sequence[str]]:
    return [titles[line * grid.columns : (line + 1) * grid.columns] for line in range(grid.lines)]


def _broken(title: str, width: float) -> str:
    """A loss's name over its parameters where both do not fit on one line."""
    if text_width(title, SMALL) <= width:
        return title
    name, bracket, params = title.partition("(")
    return "\n".join([name, *(bracket + params).split(", ")]) if bracket else title.replace("_", "_\n", 1)
