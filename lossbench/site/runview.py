"""What a page shows of one run, from its record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from lossbench import metrics
from lossbench.finescores import FINE
from lossbench.records import Record
from lossbench.runs import Run
from lossbench.site.figuredata import short, shorts, thin
from lossbench.standings import COLUMNS

#: Shades of the confusion matrix.
SHADES = 20


@dataclass(frozen=True)
class ClassLine:
    name: str
    group: str
    share: float
    scored: float
    iou: float
    precision: float
    recall: float
    f1: float


def class_lines(record: Record) -> list[ClassLine]:
    """Per class, commonest in training first; percent."""
    scores = metrics.class_scores(metrics.counts_of(record.confusion))
    train = np.asarray(record.train_pixels, dtype=np.float64)
    truth = record.confusion.sum(axis=1).astype(np.float64)
    train, truth = _shares(train), _shares(truth)
    return [
        ClassLine(
            record.class_names[c],
            group,
            float(train[c]),
            float(truth[c]),
            *(100 * float(scores[key][c]) for key in ("iou", "precision", "recall", "f1")),
        )
        for group, classes in metrics.frequency_groups(record.train_pixels).items()
        for c in classes.tolist()
    ]


def _shares(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    total = pixels.sum()
    return 100 * pixels / total if total else np.full(len(pixels), np.nan)


def score_lines(record: Record) -> list[tuple[str, str, float]]:
    """Title, meaning and value in percent of every score over the pooled matrix."""
    found = metrics.summary(record.confusion, record.train_pixels)
    return [(COLUMNS[key].title, COLUMNS[key].meaning, 100 * found[key]) for key in COLUMNS if key in found]


def fine_lines(run: Run) -> list[tuple[str, str, float]]:
    """The same of the scores over images, boundaries and confidences, as far as the run has them."""
    keys = (*metrics.IMAGE_AVERAGES, *FINE)
    found = [(COLUMNS[key], run.value(key)) for key in keys]
    return [(column.title, f"{column.meaning}, {column.unit}", value) for column, value in found if value == value]


def confusion_rows(record: Record) -> Markup:
    """The body of the confusion matrix as table rows, commonest class first: the share of a true class's pixels in
    percent; the counts in `data-n`. Made by hand: a template takes ten times as long, and there are thousands."""
    order = np.argsort(-np.asarray(record.train_pixels), kind="stable")
    matrix = record.confusion[np.ix_(order, order)]
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(100.0 * matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    shades = np.ceil(np.sqrt(shares / 100) * SHADES).astype(int).tolist()
    names = [str(escape(record.class_names[index])) for index in order.tolist()]
    rows = []
    for i, (name, counts, line, own) in enumerate(zip(names, matrix.tolist(), shares.tolist(), shades, strict=True)):
        cells = "".join(
            f'<td class="q{shade}{" on" if i == j else ""}" data-n="{count}">{_share(share, count)}</td>'
            for j, (count, share, shade) in enumerate(zip(counts, line, own, strict=True))
        )
        rows.append(f'<tr><th scope="row">{name}</th>{cells}<td class="sum">{int(totals[i, 0]):,}</td></tr>')
    return Markup("\n".join(rows))


def _share(share: float, count: int) -> str:
    if not count:
        return "0"
    return "&lt;1" if share < 0.5 else f"{share:.0f}"


def confusion_head(record: Record) -> list[str]:
    order = np.argsort(-np.asarray(record.train_pixels), kind="stable")
    return [record.class_names[index] for index in order.tolist()]


def phases(record: Record) -> list[tuple[str, float, float]]:
    """Milliseconds by phase, and each one's share of the step in percent."""
    known = [
        (str(name), float(value))
        for name, value in (record.costs.get("ms") or {}).items()
        if name != "total" and isinstance(value, int | float) and math.isfinite(value)
    ]
    total = sum(value for _, value in known)
    return [(name, value, 100 * value / total if total else 0.0) for name, value in known]


def curve_data(record: Record) -> dict[str, Any] | None:
    """Loss, learning rate and validation mIoU of the run, and its scalar diagnostics; None without a curve."""
    curve = record.curve
    steps = curve.get("step", [])
    if not steps:
        return None
    kept = thin(len(steps), 400)

    def series(values: Any) -> list[float | None] | None:
        if not isinstance(values, list) or len(values) != len(steps):
            return None
        if any(not isinstance(value, int | float | None) for value in values):
            return None
        return [short(values[i]) for i in kept]

    data: dict[str, Any] = {"x": shorts([steps[i] for i in kept], 8)}
    data["series"] = {name: found for name in ("loss", "lr") if (found := series(curve.get(name))) is not None}
    if curve.get("eval_miou"):
        scored = [None if value is None else 100 * value for value in curve["eval_miou"]]
        data["eval"] = {"x": list(curve.get("eval_step", [])), "y": [short(value) for value in scored]}
    diagnostics = {str(name): found for name, values in record.diagnostics.items() if (found := series(values))}
    if diagnostics:
        data["diagnostics"] = diagnostics
    return data


def diagnostic_lines(record: Record) -> list[tuple[str, str, str, str]]:
    """First, largest and last value of every scalar series that the loss logged."""
    lines = []
    for name, values in record.diagnostics.items():
        known = [value for value in values if isinstance(value, int | float)] if isinstance(values, list) else []
        if known and name != "class_steps" and not any(isinstance(value, list) for value in values):
            lines.append((str(name), *(f"{value:.4g}" for value in (known[0], max(known), known[-1]))))
    return lines  # type: ignore[return-value]


def provenance_lines(record: Record) -> list[tuple[str, str]]:
    """What ran, on what, as names and text."""
    facts = record.provenance
    names = {"protocol": "engine protocol", "lossbench": "lossbench version"}
    return [
        (names.get(key, key.replace("_", " ")), text)
        for key, value in facts.items()
        if key != "command" and (text := _text(value))
    ]


def origin(record: Record) -> dict[str, str]:
    """Command, suite and commit as a record states them; empty where it does not."""
    facts = record.provenance
    found = {key: _text(facts.get(key)) for key in ("command", "suite")}
    git = facts.get("git")
    if isinstance(git, Mapping):
        found["commit"] = _text(git.get("commit")) + (", with uncommitted changes" if git.get("dirty") else "")
    return {"commit": "", **found}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items() if item not in (None, ""))
    if value is None:
        return ""
    return value if isinstance(value, str) else plain(value)


def plain(value: Any) -> str:
    """A parameter or setting as a reader writes it."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
