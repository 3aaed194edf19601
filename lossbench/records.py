"""A record: what one finished cell leaves behind. One JSON file and a compact sidecar of per-image counts.

The int64 confusion matrix is the truth; every figure anyone shows is recomputed from it.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.cells import identity_hash
from lossbench.errors import RecordError

#: Version of the record's layout. Readers accept this and every older one (golden files in tests/).
SCHEMA = 1
#: What became of a run that left a record. (A failed one leaves none.)
STATUSES = ("ok", "diverged")


class NewerSchemaError(RecordError):
    """The record is sound, but a newer lossbench wrote it: never to be overwritten by this one."""


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
            Values that are not finite are null in the file and NaN when read back.
        costs: {"ms_per_step", "ms": {phase: ms}, "peak_memory_mb", "extra_forwards", "train_s", "eval_s"}.
        diagnostics: what the loss itself logged, by name: a number at each step of the curve, or a list of C numbers at
            each step of {"class_steps": [...]}. Null where there was nothing to tell.
        provenance: code hashes, PROTOCOL, versions, hardware, data fingerprint, times, command, suite.
        notes: remarks for a reader, e.g. why it diverged.
        absent_class_rule: "excluded": a class in neither truth nor prediction is left out of a mean.
        extra_counts: what `finescores` computes boundary IoU and calibration from; empty in records from before.
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
    extra_counts: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        return identity_hash(self.cell)

    @property
    def seed(self) -> int:
        return int(self.cell["seed"])

    def to_json(self) -> str:
        """Human-readable JSON; long number lists one to a line, the matrix one row a line.

        NaN and infinity (a diverged run's curve) become null. Arrays and numpy scalars are accepted everywhere.
        """
        # The cell is what the id hashes: it goes in untouched. Everything else is made plain first.
        members: dict[str, str] = {
            "schema": json.dumps(self.schema),
            "id": json.dumps(self.id),
            "labels": _block(self.labels),
            "status": json.dumps(self.status),
            "cell": _block(self.cell),
            "class_names": json.dumps(list(self.class_names)),
            "absent_class_rule": json.dumps(self.absent_class_rule),
            "confusion": _lines("[]", [json.dumps(row) for row in np.asarray(self.confusion).tolist()]),
            "train_pixels": json.dumps(_plain(self.train_pixels)),
            **({"extra_counts": _lines("{}", _members(self.extra_counts))} if self.extra_counts else {}),
            "costs": _block(_plain(self.costs)),
            "diagnostics": _lines("{}", _members(self.diagnostics)),
            "curve": _lines("{}", _members(self.curve)),
            "provenance": _block(_plain(self.provenance)),
            "notes": _block(_plain(self.notes)),
        }
        return "{\n" + ",\n".join(f' "{key}": {text}' for key, text in members.items()) + "\n}\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """Parse and check. Raises RecordError in one line for a truncated, invalid or foreign record, and
        NewerSchemaError for one that a newer lossbench wrote."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"not valid JSON ({error})") from None
        return cls.from_data(data)

    @classmethod
    def from_data(cls, data: Any) -> Record:
        """As `from_json`, of what was parsed."""
        if not isinstance(data, dict) or "schema" not in data:
            raise RecordError("not a lossbench record (no schema)")
        schema = data["schema"]
        if type(schema) is not int or schema < 1:
            raise RecordError(f"not a lossbench record (schema {schema!r})")
        if schema > SCHEMA:
            raise NewerSchemaError(
                f"schema {schema} is newer than this lossbench reads ({SCHEMA})",
                hint="upgrade lossbench",
            )
        try:
            record = _read_v1(cls, data)
            identity = record.id
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise RecordError(f"malformed record: {reason}") from None
        if identity != data.get("id"):
            raise RecordError(f"id {data.get('id')} is not the hash of its cell ({identity})")
        return record


def _read_v1(cls: type[Record], data: dict[str, Any]) -> Record:
    """Schema 1, checked by hand: thousands of records are read at once. Raises KeyError, TypeError, ValueError."""
    for key, kind in _TYPES.items():
        if not isinstance(data[key], kind):
            raise TypeError(f"'{key}' must be a JSON {_JSON_NAMES[kind]}")
    cell, labels = data["cell"], data["labels"]
    if type(cell["seed"]) is not int or not -(2**63) <= cell["seed"] < 2**63:
        raise TypeError("the seed must be an integer of 64 bits")
    for part in ("dataset", "backbone", "loss"):
        if not isinstance(cell[part]["name"], str) or not isinstance(cell[part]["params"], dict):
            raise TypeError(f"the cell's {part} must be a name and its params")
        if not isinstance(labels[part], str):
            raise TypeError(f"the label of the {part} must be a string")
    if not isinstance(cell["protocol"], dict):
        raise TypeError("the cell's protocol must be a JSON object")
    if data["status"] not in STATUSES:
        raise ValueError(f"status {data['status']!r} is none of {', '.join(STATUSES)}")
    confusion = _matrix(data["confusion"])
    classes = len(data["class_names"])
    if not classes or confusion.shape != (classes, classes) or len(data["train_pixels"]) != classes:
        raise ValueError(f"confusion matrix of shape {confusion.shape} for {classes} classes")
    if confusion.dtype != np.int64 or confusion.min() < 0:
        raise ValueError("the confusion matrix must hold pixel counts (integers, not negative)")
    return cls(
        cell=cell,
        labels=labels,
        status=data["status"],
        class_names=[str(name) for name in data["class_names"]],
        confusion=confusion,
        train_pixels=[int(n) for n in data["train_pixels"]],
        curve={key: [math.nan if x is None else x for x in values] for key, values in data["curve"].items()},
        costs=data["costs"],
        diagnostics=data["diagnostics"],
        provenance=data["provenance"],
        notes=data["notes"],
        absent_class_rule=data["absent_class_rule"],
        extra_counts=_extra(data),
        schema=data["schema"],
    )


def _extra(data: dict[str, Any]) -> dict[str, Any]:
    """A later member: records from before do not have it."""
    extra = data.get("extra_counts", {})
    if not isinstance(extra, dict):
        raise TypeError("'extra_counts' must be a JSON object")
    return extra


def _matrix(rows: list[Any]) -> NDArray[Any]:
    """`np.asarray(rows)`, in half the time for what a sound record holds: lists of integers of one length."""
    if not rows or any(type(row) is not list or len(row) != len(rows) for row in rows):
        return np.asarray(rows)
    try:
        flat = b"".join([array("q", row) for row in rows])
    except (TypeError, OverflowError):  # something else than integers: numpy's dtype says so
        return np.asarray(rows)
    return np.frombuffer(bytearray(flat), dtype=np.int64).reshape(len(rows), -1)


_TYPES: dict[str, type] = {
    "cell": dict,
    "labels": dict,
    "status": str,
    "class_names": list,
    "confusion": list,
    "train_pixels": list,
    "curve": dict,
    "costs": dict,
    "diagnostics": dict,
    "provenance": dict,
    "notes": list,
    "absent_class_rule": str,
}
_JSON_NAMES: dict[type, str] = {dict: "object", list: "array", str: "string"}


def _plain(value: Any) -> Any:
    """`value` as JSON knows it: NaN and infinity as null, numpy as Python."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _block(value: Any) -> str:
    """Indented JSON, as a member of an object that is itself indented by one."""
    return json.dumps(value, indent=1, allow_nan=False).replace("\n", "\n ")


def _members(values: Mapping[str, Any]) -> list[str]:
    """Members of a JSON object, each on one line."""
    return [f"{json.dumps(key)}: {json.dumps(_plain(value))}" for key, value in values.items()]


def _lines(brackets: str, items: list[str]) -> str:
    """A JSON array or object with one item a line."""
    if not items:
        return brackets
    return f"{brackets[0]}\n  " + ",\n  ".join(items) + f"\n {brackets[1]}"
