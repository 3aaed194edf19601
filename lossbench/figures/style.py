"""How figures look: type sizes, colours, marks. One loss has one look in all figures of a set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

#: Inches; double column of an IEEE paper (a single one is 3.5).
PAPER_WIDTH = 7.16
#: Points.
TEXT, LEGEND, SMALL = 8.0, 7.0, 6.5
#: Characters of a label in a legend.
LONGEST = 60
INK, GREY, FAINT = "#222222", "#555555", "#e4e4e4"
BAND = "#f5f5f5"

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": LEGEND,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.3,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid.axis": "y",
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.5,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType: publishers refuse type 3
    "ps.fonttype": 42,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "lossbench",  # else the ids in the file are random
    "path.simplify": False,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """matplotlib's settings for drawing and saving; the user's own matplotlibrc has no say."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)  # type: ignore[arg-type]
        yield


#: Okabe & Ito 2008, "Color universal design": told apart with any kind of colour vision. Their black is a dark grey
#: here, and first, for the reference; their yellow is too faint on white: Tol's indigo (2021) is in its place.
_COLORS = ("#4d4d4d", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_HATCHES = ("", "/////", ".....", "xxxxx", "-----")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))


@dataclass(frozen=True)
class Look:
    """How one loss is drawn. The n-th round through the colours has other hatches, dashes and hollow marks."""

    color: str
    marker: str
    hatch: str
    dashes: Any
    face: str

    @classmethod
    def of(cls, place: int) -> Look:
        """The look of the loss at that place of the order."""
        turn, index = divmod(place, len(_COLORS))
        color = _COLORS[index]
        return cls(
            color,
            _MARKERS[(index + 3 * turn) % len(_MARKERS)],
            _HATCHES[turn % len(_HATCHES)],
            _DASHES[turn % len(_DASHES)],
            "white" if turn % 2 else color,
        )

    def mark(self, size: float) -> dict[str, Any]:
        """Keywords of a marker of that size in points."""
        return {
            "marker": self.marker,
            "markersize": size,
            "markerfacecolor": self.face,
            "markeredgecolor": self.color,
            "markeredgewidth": 0.6,
        }


@cache
def text_width(text: str, size: float = TEXT) -> float:
    """Inches that the longest line of a text takes."""
    lines = [line for line in text.splitlines() if line.strip()]
    family = FontProperties(family=_SETTINGS["font.family"])
    return max((TextPath((0, 0), line, size=size, prop=family).get_extents().width / 72 for line in lines), default=0)


def legend_above(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend above the axes, read row by row, in as many columns as fit. `legend_height` says what it takes."""
    shown = shortened(labels)
    columns = legend_columns(shown, figure.get_figwidth(), LEGEND)
    figure.legend(by_rows(handles, columns), by_rows(shown, columns), loc="outside upper center", ncols=columns)


def legend_height(labels: Sequence[str], width: float) -> float:
    """Inches that `legend_above` takes in a figure `width` inches wide."""
    return 0.1 + 0.135 * -(-len(labels) // legend_columns(shortened(labels), width, LEGEND))


def shortened(labels: Sequence[str]) -> list[str]:
    """Labels of at most `LONGEST` characters: the middle of a longer one is left out; a number tells those apart that
    then look the same."""
    cut = [label if len(label) <= LONGEST else _without_middle(label, LONGEST) for label in labels]
    shown: list[str] = []
    alike = 0
    for label, short in zip(labels, cut, strict=True):
        if short != label and cut.count(short) > 1:
            alike += 1
            number = f" #{alike}"
            short = _without_middle(label, LONGEST - len(number)) + number
        shown.append(short)
    return shown


def _without_middle(label: str, most: int) -> str:
    end = most // 4
    return f"{label[: most - end - 1]}…{label[-end:]}"


def legend_columns(labels: Sequence[str], width: float, size: float) -> int:
    """The most columns of a legend, read row by row, that fit into `width` inches, the rows evenly filled."""
    handle = 4.0 * size / 72  # with the gaps around it

    def fits(columns: int) -> bool:
        widest = (max(text_width(label, size) for label in labels[column::columns]) for column in range(columns))
        return sum(widest) + columns * handle <= width

    fitting = next((columns for columns in range(len(labels), 1, -1) if fits(columns)), 1)
    rows = -(-len(labels) // fitting)
    return -(-len(labels) // rows)


def by_rows(items: Sequence[Any], columns: int) -> list[Any]:
    """Items so that a legend, which fills columns first, shows them row by row."""
    return [item for column in range(columns) for item in items[column::columns]]
