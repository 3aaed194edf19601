"""The pictures of docs/reading.md: `python -m docsite.figures` draws them from the records in results/.

Each is drawn from `measured.numbers()` alone. What that found is committed beside them (docs/figures/reading.json);
a test works it out again from the records, and finds its hash in every picture.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from docsite.measured import MARGIN, REFERENCE, ROOT, SHOWN, SIMULATED, Numbers, digest, numbers
from lossbench.bootstrap import RESAMPLES
from lossbench.statistics import describe

FOLDER = ROOT / "docs" / "figures"


def _short(label: str) -> str:
    return label.partition("(")[0]


def paired(axes: Any, data: Numbers) -> None:
    """Left: every run; right: the differences within a seed."""
    left, right = axes
    ours, reference = data["miou"]["balanced_ce"], data["miou"][REFERENCE]
    for pair in zip(reference, ours, strict=True):
        left.plot([0, 1], pair, color="#888888", linewidth=0.8, zorder=1)
    for place, values in enumerate((reference, ours)):
        left.plot([place] * len(values), values, "o", color=("#4d4d4d", "#0072B2")[place], zorder=2)
        spread = describe(values)
        left.errorbar(
            place + (-0.16 if place == 0 else 0.16), spread.mean, spread.sd, fmt="_", capsize=3, color="#222222"
        )
    left.set_xticks([0, 1], ["ce", "balanced_ce"])
    left.set_xlim(-0.4, 1.4)
    left.set_ylabel("mIoU, %")
    left.set_title("Six runs of each: they overlap", loc="left")
    row = data["rows"]["balanced_ce"]
    right.axhline(0, color="#222222", linewidth=0.8)
    right.plot([0] * len(row["differences"]), row["differences"], "o", color="#0072B2")
    right.errorbar(0.25, row["mean"], row["half_width"], fmt="D", capsize=4, color="#D55E00", markersize=4)
    right.annotate("mean and\n95 % interval", (0.32, row["mean"]), fontsize=7, va="center")
    right.annotate("no difference", (0.62, 0.03), fontsize=7, color="#555555", va="bottom", ha="center")
    right.set_xlim(-0.3, 0.9)
    right.set_xticks([])
    right.set_ylabel("balanced_ce − ce, points")
    right.set_title("Within a seed it always wins", loc="left")


def spread(axes: Any, data: Numbers) -> None:
    """Standard deviation of runs, and interval of the mean difference."""
    left, right = axes
    labels = [REFERENCE, *reversed(SHOWN)]
    for place, label in enumerate(labels):
        values = data["miou"][label]
        found = describe(values)
        left.plot(values, [place + 0.13] * len(values), "o", color="#888888", markersize=3)
        left.errorbar(found.mean, place - 0.13, xerr=found.sd, fmt="D", capsize=3, color="#0072B2", markersize=3.5)
        if label != REFERENCE:
            row = data["rows"][label]
            right.errorbar(
                row["mean"], place, xerr=row["half_width"], fmt="D", capsize=3, color="#D55E00", markersize=3.5
            )
    for axis in axes:
        axis.set_ylim(-0.6, len(labels) - 0.4)
        axis.grid(visible=False, axis="y")
        axis.grid(visible=True, axis="x")
    left.set_yticks(range(len(labels)), [_short(label) for label in labels])
    right.set_yticks([])
    right.axvline(0, color="#222222", linewidth=0.8)
    left.set_xlabel("mIoU, %")
    left.set_title("runs, and their mean ± sd", loc="left")
    right.set_xlabel("difference to ce, points")
    right.set_title("mean difference and 95 % interval", loc="left")


def coverage(axis: Any, data: Numbers) -> None:
    """What 95 % means."""
    for place, (mean, half) in enumerate(data["coverage"]):
        misses = abs(mean - 1) > half
        axis.errorbar(place, mean, half, fmt="o", markersize=2, linewidth=0.9, color="#D55E00" if misses else "#888888")
    axis.axhline(1, color="#222222", linewidth=0.8)
    axis.annotate("the truth", (SIMULATED - 0.2, 1.05), fontsize=7, ha="left", va="bottom")
    axis.set_xlim(-1, SIMULATED + 7)
    axis.set_xticks([])
    axis.set_xlabel(f"{SIMULATED} simulated experiments of 6 seeds each")
    axis.set_ylabel("difference, points")


def power(axis: Any, data: Numbers) -> None:
    """How small a difference is found."""
    for n, color in (("3", "#E69F00"), ("6", "#0072B2"), ("12", "#009E73")):
        curve = np.array(data["power"][n])
        axis.plot(curve[:, 0], 100 * curve[:, 1], color=color)
        found = data["detectable"][n]
        axis.plot([found, found], [0, 80], color=color, linestyle=":", linewidth=1)
        axis.annotate(f"{n} seeds: {found:.2f}", (found + 0.03, 4), fontsize=7, color=color, rotation=90, va="bottom")
    axis.axhline(80, color="#222222", linewidth=0.8)
    axis.annotate("4 times in 5", (2.48, 81), fontsize=7, ha="right", va="bottom")
    axis.set_xlim(0, 2.5)
    axis.set_ylim(0, 103)
    axis.set_xlabel(f"true difference, points (sd of the differences {data['sd']:.2f}, the median of the rows)")
    axis.set_ylabel("found, % of experiments")


def equivalence_(axis: Any, data: Numbers) -> None:
    """TOST on the rows: 90 % intervals against the margin."""
    axis.axvspan(-MARGIN, MARGIN, color="#e8f1f8", zorder=0)
    axis.axvline(0, color="#222222", linewidth=0.8)
    shown = [label for label in reversed(SHOWN) if label != "lovasz_softmax"]
    for place, label in enumerate(shown):
        row = data["rows"][label]
        axis.errorbar(row["mean"], place + 0.1, xerr=row["half_width"], fmt="none", capsize=2, color="#bbbbbb")
        axis.errorbar(
            row["mean"], place - 0.1, xerr=row["half_width_90"], fmt="D", capsize=3, color="#0072B2", markersize=4
        )
        axis.annotate(row["verdict"], (2.08, place), fontsize=8, va="center")
    axis.set_yticks(range(len(shown)), [_short(label) for label in shown])
    axis.set_ylim(-0.6, len(shown) - 0.3)
    axis.set_xlim(-1, 2.6)
    axis.grid(visible=False)
    axis.annotate(f"margin ±{MARGIN:g}", (0, len(shown) - 0.34), fontsize=7, ha="center", va="top", color="#30618a")
    axis.set_xlabel("difference to ce, points: 95 % interval grey, 90 % interval blue")


def holm(axes: Any, data: Numbers) -> None:
    """Many rows, one correction."""
    left, right = axes
    tests = np.arange(1, 31)
    left.plot(tests, 100 * (1 - 0.95**tests), color="#D55E00")
    left.axhline(5, color="#0072B2")
    left.annotate("without a correction", (15, 100 * (1 - 0.95**15) - 3), fontsize=7, color="#D55E00", va="top")
    left.annotate("with Holm's: at most 5 %", (12, 6.5), fontsize=7, color="#0072B2", va="bottom")
    left.set_xlabel("losses that do nothing")
    left.set_ylabel("chance of a false *, %")
    left.set_ylim(0, 85)
    order = sorted(SHOWN, key=lambda label: data["rows"][label]["p"])
    for place, label in enumerate(order):
        row = data["rows"][label]
        right.plot([row["p"], row["p_holm"]], [place, place], color="#bbbbbb", linewidth=1, zorder=1)
        right.plot(row["p"], place, "o", color="#888888")
        right.plot(row["p_holm"], place, "D", color="#0072B2", markersize=4)
    right.axvline(0.05, color="#222222", linewidth=0.8)
    right.annotate("0.05", (0.055, -0.45), fontsize=7, va="center")
    right.set_xscale("log")
    right.set_yticks(range(len(order)), [_short(label) for label in order])
    right.set_ylim(len(order) - 0.4, -0.7)
    right.grid(visible=False, axis="y")
    right.set_xlabel("p of the paired t-test (grey), after Holm's correction (blue)")


def bootstrap(axis: Any, data: Numbers) -> None:
    """Other images, other seeds."""
    found = data["bootstrap"]
    edges = np.array(found["edges"])
    axis.stairs(found["images"], edges, color="#E69F00", fill=True, alpha=0.45, label="other images, the same seeds")
    axis.stairs(found["both"], edges, color="#0072B2", linewidth=1.3, label="other images and other seeds")
    axis.axvline(0, color="#222222", linewidth=0.8)
    top = max(found["images"])
    axis.plot([found["low"], found["high"]], [-0.05 * top] * 2, color="#0072B2", linewidth=3, solid_capstyle="butt")
    axis.annotate(
        "95 % interval",
        (found["high"], -0.05 * top),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=7,
        va="center",
    )
    axis.set_ylim(-0.1 * top, 1.05 * top)
    axis.set_xlim(-0.1, edges[-1] + 0.35)
    axis.set_yticks([])
    axis.legend(loc="upper right")
    axis.set_xlabel(f"mean difference of {found['loss']} to ce in {RESAMPLES:,} resamples, points")


#: {file: (relative widths of its axes, height in inches, what draws it)}.
FIGURES: Mapping[str, tuple[list[float], float, Callable[[Any, Numbers], None]]] = {
    "reading-paired": ([1.0, 0.8], 2.6, paired),
    "reading-spread": ([1.0, 0.8], 2.3, spread),
    "reading-coverage": ([1.0], 2.1, coverage),
    "reading-power": ([1.0], 2.6, power),
    "reading-tost": ([1.0], 1.9, equivalence_),
    "reading-holm": ([0.8, 1.0], 2.4, holm),
    "reading-bootstrap": ([1.0], 2.3, bootstrap),
}


def draw(data: Numbers, folder: Path = FOLDER) -> None:
    """Write reading.json and every picture."""
    from matplotlib import pyplot

    from lossbench.figures.saving import save
    from lossbench.figures.style import PAPER_WIDTH, paper_style

    (folder / "reading.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for name, (widths, height, make) in FIGURES.items():
        with paper_style():
            size = (PAPER_WIDTH, height)
            figure, axes = pyplot.subplots(
                1, len(widths), figsize=size, layout="constrained", squeeze=False, gridspec_kw={"width_ratios": widths}
            )
            make(axes[0] if len(widths) > 1 else axes[0][0], data)
            save(figure, folder / f"{name}.svg", title=name, description=f"Numbers: {digest(data)}.")
            pyplot.close(figure)


def main() -> int:
    draw(numbers())
    return 0


if __name__ == "__main__":
    sys.exit(main())
