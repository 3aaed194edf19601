"""A record: what one finished cell leaves behind. One JSON file and a compact sidecar of per-image counts.

The int64 confusion matrix is the truth; every figure anyone shows is recomputed from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.cells import short_hash
from lossbench.errors import RecordError

#: Version of the record's layout. Readers accept this and every older one (golden files in tests/).
SCHEMA = 1


@dataclass
class Record:
    """One run.

    Attributes:
        cell: `Cell.identity`; the id is its hash.
        labels: printable names: {"dataset": ..., "backbone": ..., "loss": ...}.
        status: "ok", or "diverged" (a result too: never dropped).
        class_names: C names.
        confusion: (C, C) int64, rows = truth, columns = prediction, over all non-ignored pixels of the split.
        train_pixels: labelled training pixels per class (C), for class shares and head/middle/tail.
        curve: {"step": [...], "loss": [...], "lr": [...]} and, if scored on the way, {"eval_step", "eval_miou"}.
        costs: {"ms_per_step", "ms": {phase: ms}, "peak_memory_mb", "extra_forwards", "train_s", "eval_s"}.
        diagnostics: what the loss itself logged (mean u per class ...).
        provenance: code hashes, PROTOCOL, versions, hardware, data fingerprint, times, command, suite.
        notes: remarks for a reader, e.g. why it diverged.
        absent_class_rule: "excluded": a class in neither truth nor prediction is left out of a mean.
    """

    cell: dict[str, Any]
    labels: dict[str, str]
    status: str
    class_names: list[str]
    confusion: NDArray[np.int64]
    train_pixels: list[int]
    curve: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    absent_class_rule: str = "excluded"
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        return short_hash(self.cell)

    @property
    def seed(self) -> int:
        return int(self.cell["seed"])

    def to_json(self) -> str:
        """Human-readable JSON; the matrix one row a line."""
        rows = self.confusion.tolist()
        data: dict[str, Any] = {
            "schema": self.schema,
            "id": self.id,
            "labels": self.labels,
            "status": self.status,
            "cell": self.cell,
            "class_names": self.class_names,
            "absent_class_rule": self.absent_class_rule,
            "confusion": "@confusion@",
            "train_pixels": "@train_pixels@",
            "costs": self.costs,
            "diagnostics": self.diagnostics,
            "curve": {key: f"@curve.{key}@" for key in self.curve},
            "provenance": self.provenance,
            "notes": self.notes,
        }
        text = json.dumps(data, indent=1, allow_nan=False)
        matrix = "[\n  " + ",\n  ".join(json.dumps(row) for row in rows) + "\n ]"
        text = text.replace('"@confusion@"', matrix).replace('"@train_pixels@"', json.dumps(self.train_pixels))
        for key, values in self.curve.items():
            text = text.replace(f'"@curve.{key}@"', json.dumps(values, allow_nan=False))
        return text + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """Parse and check. Raises RecordError in one line for a truncated, invalid or newer record."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RecordError(f"not valid JSON ({error})") from None
        if not isinstance(data, Mapping) or "schema" not in data:
            raise RecordError("not a lossbench record (no schema)")
        if not isinstance(data["schema"], int) or data["schema"] > SCHEMA:
            raise RecordError(
                f"schema {data['schema']} is newer than this lossbench reads ({SCHEMA})",
                hint="upgrade lossbench",
            )
        try:
            record = cls(
                cell=data["cell"],
                labels=data["labels"],
                status=data["status"],
                class_names=list(data["class_names"]),
                confusion=np.asarray(data["confusion"], dtype=np.int64),
                train_pixels=[int(n) for n in data["train_pixels"]],
                curve=data["curve"],
                costs=data["costs"],
                diagnostics=data["diagnostics"],
                provenance=data["provenance"],
                notes=data["notes"],
                absent_class_rule=data["absent_class_rule"],
                schema=data["schema"],
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RecordError(f"malformed record ({type(error).__name__}: {error})") from None
        classes = len(record.class_names)
        if record.confusion.shape != (classes, classes) or len(record.train_pixels) != classes:
            raise RecordError(f"confusion matrix of shape {record.confusion.shape} for {classes} classes")
        if (record.confusion < 0).any():
            raise RecordError("confusion matrix with negative counts")
        if record.id != data.get("id"):
            raise RecordError(f"id {data.get('id')} is not the hash of its cell ({record.id})")
        return record
