"""What a tracker is told of a record: names, parameters, curves and final scores. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lossbench import finescores, metrics
from lossbench.diagnosis import CLASS_STEPS, is_per_class
from lossbench.records import Record
from lossbench.runs import FINE_SCALE

#: (step, value), by rising step.
Series = list[tuple[int, float]]


@dataclass(frozen=True)
class Story:
    """A record as its reader in a tracker wants it.

    Attributes:
        id: of the cell: the run's identity wherever it is sent.
        record: a hash of the record's file: a cell that was run again has another one.
        name, group: for people; `group` is dataset and backbone, what may be compared.
        params: flat: dataset, backbone, loss, seed, `loss.gamma`, `protocol.lr`, ...
        tags: status, suite, versions.
        series: curves by name; what was not finite is left out.
        scores: final figures by name; scores in percent.
        started, finished: seconds since 1970.
    """

    id: str
    name: str
    group: str
    params: dict[str, str | int | float | bool]
    tags: dict[str, str]
    series: dict[str, Series] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    started: float = 0.0
    finished: float = 0.0
    record: str = ""

    @property
    def diverged(self) -> bool:
        return self.tags["status"] == "diverged"


def story_of(record: Record, digest: str = "") -> Story:
    """The story of a record; `digest` is what becomes its `record`."""
    labels, cell = record.labels, record.cell
    params: dict[str, Any] = {part: labels[part] for part in ("dataset", "backbone", "loss")} | {"seed": record.seed}
    for part in ("dataset", "backbone", "loss"):
        params |= {f"{part}.{key}": _plain(value) for key, value in cell[part]["params"].items()}
    params |= {f"protocol.{key}": _plain(value) for key, value in cell["protocol"].items()}
    facts = record.provenance
    tags = {
        "status": record.status,
        "loss": str(cell["loss"]["name"]),
        "suite": str(facts.get("suite") or ""),
        "lossbench": str(facts.get("lossbench") or ""),
        "lossbench.id": record.id,
    }
    return Story(
        id=record.id,
        name=f"{labels['loss']} seed {record.seed}",
        group=f"{labels['dataset']} / {labels['backbone']}",
        params=params,
        tags=tags,
        series=_series(record),
        scores=_scores(record),
        started=_moment(facts.get("started")),
        finished=_moment(facts.get("finished")),
        record=digest,
    )


def _series(record: Record) -> dict[str, Series]:
    curve = record.curve
    steps = curve.get("step", [])
    found = {f"train/{name}": _paired(steps, curve.get(name)) for name in ("loss", "lr")}
    scored = [100 * value for value in curve.get("eval_miou", [])]
    found["val/miou"] = _paired(curve.get("eval_step", []), scored)
    told = record.diagnostics
    for name, values in told.items():
        if name == CLASS_STEPS:
            continue
        if is_per_class(values):
            for index, label in enumerate(record.class_names):
                own = [v[index] if isinstance(v, list) and index < len(v) else None for v in values]
                found[f"diagnostics/{name}/{label}"] = _paired(told.get(CLASS_STEPS, []), own)
        else:
            found[f"diagnostics/{name}"] = _paired(steps, values)
    return {name: series for name, series in found.items() if series}


def _paired(steps: Sequence[Any], values: Any) -> Series:
    if not isinstance(values, list) or len(values) != len(steps):
        return []
    pairs = zip(steps, values, strict=True)
    return [
        (int(step), float(value))
        for step, value in pairs
        if isinstance(value, int | float) and math.isfinite(value) and math.isfinite(step)
    ]


def _scores(record: Record) -> dict[str, float]:
    figures = metrics.summary(record.confusion, record.train_pixels)
    found = {f"final/{key}": 100 * value for key, value in figures.items()}
    fine = finescores.scores(record.extra_counts, len(record.class_names))
    found |= {f"final/{key}": FINE_SCALE[key] * value for key, value in fine.items()}
    ious = (100 * metrics.iou(record.confusion)).tolist()
    found |= {f"iou/{name}": value for name, value in zip(record.class_names, ious, strict=True)}
    costs = ("ms_per_step", "peak_memory_mb", "extra_forwards", "train_s", "eval_s")
    found |= {f"cost/{key}": value for key in costs if isinstance(value := record.costs.get(key), int | float)}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _moment(text: Any) -> float:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def by_step(series: Mapping[str, Series]) -> list[tuple[int, dict[str, float]]]:
    """All series together: what each step has, by rising step."""
    steps: dict[int, dict[str, float]] = {}
    for name, points in series.items():
        for step, value in points:
            steps.setdefault(step, {})[name] = value
    return sorted(steps.items())
