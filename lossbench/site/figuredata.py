"""The numbers of a block's figures, compact: static/figures.js draws them. Undefined values are null."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.site.lossinfo import class_gains
from lossbench.site.model import Board, Loss
from lossbench.site.tables import class_columns
from lossbench.standings import Row
from lossbench.statistics import describe

#: Losses that are shown at first where all together would hide each other: the reference and so many of the best.
SHOWN = 4
#: A score further below the best than so many times the median distance is outside a plot's frame.
_FAR = 5.0


def short(value: float | None, digits: int = 5) -> float | None:
    """A number of a few digits, null when there is none: what a plot can show."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")


def shorts(values: Sequence[float] | NDArray[np.float64], digits: int = 5) -> list[float | None]:
    return [short(value, digits) for value in np.asarray(values, dtype=np.float64).tolist()]


def style(loss: Loss, label: str | None = None) -> dict[str, Any]:
    """How a loss is named and drawn."""
    look = loss.look
    return {"l": label or loss.label, "c": look.color, "s": look.shape, "t": look.turn}


def figures(board: Board, curves: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All figures of a block: `losses` in its table's order, `shown` those that are drawn at first."""
    block = board.block
    reference = [i for i, row in enumerate(block.rows) if row.is_reference]
    best = [i for i in range(len(block.rows)) if i not in reference][:SHOWN]
    data: dict[str, Any] = {
        "losses": [style(loss, row.label) for loss, row in zip(board.losses, block.rows, strict=True)],
        "reference": reference[0] if reference else None,
        "shown": sorted([*reference, *best]),
        "classes": _classes(board),
    }
    if any(math.isfinite(row.value("ms_per_step")) for row in block.rows):
        data["pareto"] = _pareto(board)
    if block.has_reference and len(block.rows) > 1:
        data["gains"] = _gains(board)
    if curves:
        data["curves"] = curves
    return data


def _classes(board: Board) -> dict[str, Any]:
    columns = class_columns(board.block)
    described = [[row.class_iou(column.name) for column in columns] for row in board.block.rows]
    return {
        "names": [column.name for column in columns],
        "shares": shorts([column.share for column in columns], 3),
        "groups": [column.group for column in columns],
        "mean": [shorts([d.mean for d in line]) for line in described],
        "sd": [[short(d.sd, 3) for d in line] for line in described],
    }


def _gains(board: Board) -> dict[str, Any]:
    """Differences of every class's IoU to the reference, with half the width of their intervals."""
    names = [column.name for column in class_columns(board.block)]
    means, halves = [], []
    for row in board.block.rows:
        found = dict(class_gains(row, board))
        means.append([short(found[name].mean) if name in found else None for name in names])
        halves.append([short(found[name].half_width, 3) if name in found else None for name in names])
    return {"mean": means, "half": halves}


def _pareto(board: Board) -> dict[str, Any]:
    """mIoU against ms per step: mean and sd over seeds of both, the frontier, and the range that shows most of it."""
    rows = board.block.rows
    times = [describe(row.runs.values("ms_per_step")) for row in rows]
    scores = [row.describe("miou") for row in rows]
    points = [(time.mean, score.mean) for time, score in zip(times, scores, strict=True)]
    inside = framed([score.mean for score in scores])
    return {
        "ms": shorts([time.mean for time in times]),
        "ms_sd": [short(time.sd, 3) for time in times],
        "miou": shorts([score.mean for score in scores]),
        "sd": [short(score.sd, 3) for score in scores],
        "frontier": frontier(points),
        "outside": [i for i, within in enumerate(inside) if not within],
    }


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, score) that no other one beats in both: by rising cost."""
    known = [i for i, point in enumerate(points) if all(map(math.isfinite, point))]
    found: list[int] = []
    for i in sorted(known, key=lambda i: (points[i][0], -points[i][1])):
        if not found or points[i][1] > points[found[-1]][1]:
            found.append(i)
    return found


def framed(scores: Sequence[float]) -> list[bool]:
    """Which scores a plot's frame should hold: not those so far below that the others would be one point."""
    known = sorted((score for score in scores if math.isfinite(score)), reverse=True)
    if len(known) < 4:
        return [math.isfinite(score) for score in scores]
    middle = known[len(known) // 2]
    reach = max(_FAR * (known[0] - middle), 1.0)
    return [math.isfinite(score) and score >= known[0] - reach for score in scores]


# --- learning curves ---

#: Points of a curve that a page carries, at most.
POINTS = 160


def thin(count: int, most: int = POINTS) -> list[int]:
    """Indices of at most `most` points of a curve, first and last among them."""
    if count <= most:
        return list(range(count))
    return sorted(set(np.linspace(0, count - 1, most).round().astype(int).tolist()))


def learning_curves(rows: Sequence[Row], by_id: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any] | None:
    """Training loss (smoothed) and validation mIoU over the steps, mean and sd over the seeds that were read.

    Args:
        by_id: curves of records (`Record.curve`) by id.
    """
    from lossbench.figures.curves import SMOOTHING, over_seeds, smooth

    found: dict[str, list[Any]] = {"loss": [], "miou": []}
    for row in rows:
        curves = [by_id[run] for run in row.runs.ids if run in by_id]
        window = max(1, round(SMOOTHING * max((len(curve.get("step", ())) for curve in curves), default=0)))
        losses = [(curve.get("step", ()), smooth(curve.get("loss", ()), window)) for curve in curves]
        scores = [
            (curve.get("eval_step", ()), 100 * np.asarray(curve.get("eval_miou", ()), np.float64)) for curve in curves
        ]
        for key, given in (("loss", losses), ("miou", scores)):
            line = over_seeds(row.label, given) if given else None
            if line is None:
                found[key].append(None)
                continue
            kept = thin(len(line.steps))
            found[key].append(
                {"x": shorts(line.steps[kept], 7), "y": shorts(line.mean[kept], 4), "sd": shorts(line.sd[kept], 3)}
            )
    return found if any(line is not None for lines in found.values() for line in lines) else None
