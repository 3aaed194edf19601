"""One record for a reader: what it scored, class by class, what it cost, and what ran."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.text import Text

from lossbench import finescores, metrics
from lossbench.records import Record
from lossbench.runs import FINE_SCALE
from lossbench.standings import COLUMNS
from lossbench.views.grid import Entry, Grid, Header, number
from lossbench.views.terminal import draw, emit, print_title, safe

#: Numbers of a diagnostic that are shown one by one, at most.
_SHORT = 5
#: Scores that have no pooled one of their name.
_OVER_IMAGES = ("image_class_miou", "image_miou_worst")


def render(record: Record, console: Console, *, per_image: ArrayLike | None = None, stale: Sequence[str] = ()) -> None:
    """Print a record.

    Args:
        per_image: TP, FP, FN (n_images, C, 3) of the sidecar: adds the image-averaged scores.
        stale: why it is stale (`provenance.stale_reasons`).
    """
    labels = record.labels
    print_title(f"{labels['dataset']} / {labels['backbone']} / {labels['loss']} / seed {record.seed}", console)
    lines = [("id", record.id), ("status", record.status)]
    lines += [("stale", reason) for reason in stale] + [("note", note) for note in record.notes]
    _pairs(lines, console)

    _heading("Scores, percent", console)
    figures = metrics.summary(record.confusion, record.train_pixels, per_image)
    draw(_scores(figures, finescores.scores(record.extra_counts, len(record.class_names))), console)
    _heading("Classes, commonest in training first", console)
    draw(class_table(record), console)
    _heading("Costs", console)
    _pairs(_costs(record.costs), console)
    if record.diagnostics:
        _heading("Diagnostics of the loss", console)
        _pairs([(key, _series(value)) for key, value in record.diagnostics.items()], console)
    _heading("Provenance", console)
    _pairs([*_settings(record), *_provenance(record.provenance)], console)


def class_table(record: Record) -> Grid:
    """Per class: share of training and scored pixels, IoU, precision, recall, F1, and its commonest wrong answer."""
    scores = metrics.class_scores(metrics.counts_of(record.confusion))
    train = np.asarray(record.train_pixels, dtype=np.float64)
    truth = record.confusion.sum(axis=1).astype(np.float64)
    headers = [Header("class", numeric=False), Header("train", "%"), Header("scored", "%")]
    headers += [Header(title, "%") for title in ("IoU", "prec", "rec", "F1")]
    headers.append(Header("mostly taken for", "% of its pixels", numeric=False))
    rows = []
    for index in np.argsort(-train, kind="stable").tolist():
        shares = [_share(train, index), _share(truth, index)]
        line = [Entry(record.class_names[index]), *(Entry(number(share, 3)) for share in shares)]
        line += [Entry(number(100 * float(scores[key][index]))) for key in ("iou", "precision", "recall", "f1")]
        rows.append([*line, Entry(_mistake(record, index))])
    return Grid(headers, rows)


def _share(pixels: np.ndarray[Any, Any], index: int) -> float:
    total = float(pixels.sum())
    return 100 * float(pixels[index]) / total if total else math.nan


def _mistake(record: Record, index: int) -> str:
    row = record.confusion[index].copy()
    total = int(row.sum())
    row[index] = 0
    worst = int(row.argmax())
    return f"{record.class_names[worst]} {100 * int(row[worst]) / total:.1f}" if row[worst] else "-"


def _scores(figures: Mapping[str, float], fine: Mapping[str, float]) -> Grid:
    """Pooled scores and, beside them, the image-averaged ones of the same name; of `fine` those that there are."""
    headers = [Header("score", numeric=False), Header("pooled"), Header("per image"), Header("", numeric=False)]
    rows = []
    for key, column in COLUMNS.items():
        if key in _OVER_IMAGES and key in figures:
            pooled, averaged = math.nan, 100 * figures[key]
        elif key in figures and not key.startswith("image_m"):
            pooled, averaged = 100 * figures[key], 100 * figures.get(f"image_{key}", math.nan)
        elif not math.isnan(fine.get(key, math.nan)):
            pooled, averaged = FINE_SCALE[key] * fine[key], math.nan
        else:
            continue
        unit = "" if column.unit == "%" else f" ({column.unit})"
        rows.append([
            Entry(column.title), Entry(number(pooled)), Entry(number(averaged)), Entry(column.meaning + unit)
        ])  # fmt: skip
    return Grid(headers, rows)


def _costs(costs: Mapping[str, Any]) -> list[tuple[str, str]]:
    phases = costs.get("ms") or {}
    split = ", ".join(f"{name} {value:.1f}" for name, value in phases.items() if isinstance(value, int | float))
    step = _number(costs.get("ms_per_step"), "ms")
    return [
        ("step", f"{step} ({split})" if split else step),
        ("peak memory", _number(costs.get("peak_memory_mb"), "MB", 0)),
        ("extra forwards", _number(costs.get("extra_forwards"), "per step", 0)),
        ("training", _number(costs.get("train_s"), "s")),
        ("evaluation", _number(costs.get("eval_s"), "s")),
    ]


def _number(value: Any, unit: str, digits: int = 1) -> str:
    return f"{value:.{digits}f} {unit}" if isinstance(value, int | float) else "-"


def _settings(record: Record) -> list[tuple[str, str]]:
    lines = []
    for part in ("dataset", "backbone", "loss"):
        component = record.cell[part]
        params = ", ".join(f"{key}={_text(value)}" for key, value in component["params"].items())
        lines.append((part, f"{component['name']}({params})" if params else component["name"]))
    protocol = ", ".join(f"{key} {_text(value)}" for key, value in record.cell["protocol"].items())
    return [*lines, ("protocol", protocol)]


def _provenance(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {_text(item)}" for name, item in value.items() if item is not None)
        if value not in (None, ""):
            lines.append(("engine PROTOCOL" if key == "protocol" else key, _text(value)))
    return lines


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _series(value: Any) -> str:
    """A diagnostic over training, in short: a long series by its first, largest and last number."""
    if not isinstance(value, list) or (len(value) <= _SHORT and not any(isinstance(item, list) for item in value)):
        return _text(value)
    if any(isinstance(item, list) for item in value):
        return f"{len(value[-1])} numbers at {len(value)} steps"
    known = [item for item in value if item is not None]
    largest = _text(max(known)) if known else "-"
    return f"first {_text(value[0])}, largest {largest}, last {_text(value[-1])} ({len(value)} points)"


def _heading(title: str, console: Console) -> None:
    console.print()
    emit(Text(title, style="bold"), console)


def _pairs(lines: Sequence[tuple[str, str]], console: Console) -> None:
    """Name and value, the values aligned and wrapped under themselves."""
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        text = Text(safe(value, console)).wrap(console, max(console.width - width - 2, 20))
        for number_of_line, part in enumerate(text):
            emit(Text(f"{'' if number_of_line else name:<{width}}  {part.plain}"), console)
