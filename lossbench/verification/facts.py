"""What rules over several records compare: of each a few numbers, so that 100,000 are compared at once."""

from __future__ import annotations

import hashlib
import itertools
import json
import marshal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.metrics import FN, TP, counts_of
from lossbench.records import Record
from lossbench.runtable import RunTable
from lossbench.signatures import KINDS

#: `scored`, `trained`, `made`: positions in the texts. `counts`, `images`: hashes of 64 bits; 0: not known.
ROW = np.dtype(
    [("id", "<u8"), ("scored", "<i4"), ("trained", "<i4"), ("made", "<i4"), ("counts", "<u8"), ("images", "<u8")]
)


@dataclass(frozen=True)
class Facts:
    """Of n records.

    Attributes:
        paths: of each, below the folder of records.
        rows: (n) of ROW.
        texts: JSON, each once: what a record was scored on, trained on, and made by (see `Collector.add`).
    """

    paths: list[str]
    rows: NDArray[Any]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, places: NDArray[np.int64]) -> Facts:
        return Facts([self.paths[place] for place in places.tolist()], self.rows[places], self.texts)


class Collector:
    """Builds Facts."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._rows: list[tuple[int, ...]] = []
        self._texts: list[str] = []
        self._known: dict[bytes, int] = {}

    def add(self, path: str, record: Record, per_image: NDArray[Any] | None, names: Sequence[str]) -> None:
        counts = counts_of(record.confusion)
        truth, scored_any = record.confusion.sum(axis=1).tolist(), bool(record.confusion.any())
        scored, trained, made = _texts(record.cell, record.class_names, record.train_pixels, record.provenance)
        self._rows.append(
            (
                int(record.id, 16),
                self._place([*scored, truth if scored_any else None]),
                self._place(trained),
                self._place(made),
                _digest(counts.astype("<i8").tobytes()),
                0 if per_image is None else _digest(_images(per_image, names)),
            )
        )
        self._paths.append(path)

    def _place(self, value: Any) -> int:
        # Version 2 of marshal has no references: equal bytes are equal values.
        place = self._known.setdefault(marshal.dumps(value, 2), len(self._texts))
        if place == len(self._texts):
            self._texts.append(json.dumps(value, sort_keys=True))
        return place

    def facts(self) -> Facts:
        return Facts(self._paths, np.array(self._rows, dtype=ROW), self._texts)


def _texts(
    cell: Mapping[str, Any], names: Sequence[str], pixels: Sequence[int], provenance: Mapping[str, Any]
) -> tuple[list[Any], list[Any], list[Any]]:
    """[dataset, split, classes] scored on, without the truth; [dataset, split, classes, pixels] trained on;
    [plugins, their hashes, PROTOCOL] made by."""
    dataset, protocol = cell["dataset"], cell["protocol"]
    splits = [protocol["eval_split"], protocol["train_split"]]
    if protocol.get("holdout") is not None:  # a trial: scored on a part of the training split, trained on the rest
        splits = [
            f"{split}, {protocol['holdout']} of it held out, {protocol.get('holdout_seed', 0)}" for split in splits
        ]
    scored = [dataset, splits[0], names]
    trained = [dataset, splits[1], names, pixels]
    made = [{kind: cell[kind] for kind in KINDS}, provenance.get("code"), provenance.get("protocol")]
    return scored, trained, made


def _images(per_image: NDArray[Any], names: Sequence[str]) -> bytes:
    """Names and true pixels by class of the images, whatever their order in the file."""
    truth: NDArray[np.int64] = (per_image[..., TP].astype(np.int64) + per_image[..., FN]).astype("<i8")
    if any(first > second for first, second in itertools.pairwise(names)):
        order = sorted(range(len(names)), key=names.__getitem__)
        names, truth = [names[place] for place in order], truth[order]
    return "\0".join(names).encode(errors="surrogatepass") + b"\0" + truth.tobytes()


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") or 1


def of_table(table: RunTable) -> Facts:
    """Of records in an index; nothing is known of their images."""
    texts: list[str] = []
    places = []
    for condition in table.conditions:
        truth = condition.truth if condition.scored else None
        scored, trained, made = _texts(
            condition.cell, condition.class_names, condition.train_pixels, condition.provenance
        )
        places.append(range(len(texts), len(texts) + 3))
        texts += [json.dumps(value, sort_keys=True) for value in ([*scored, truth], trained, made)]
    rows = np.zeros(len(table), dtype=ROW)
    rows["id"] = table.ids
    for offset, column in enumerate(("scored", "trained", "made")):
        rows[column] = np.array([place[offset] for place in places], dtype=np.int32)[table.condition]
    counts, starts = table.counts.astype("<i8"), table.starts.tolist()
    rows["counts"] = [_digest(counts[low:high].tobytes()) for low, high in itertools.pairwise(starts)]
    return joined([Facts(table.paths, rows, texts)])


def joined(parts: Iterable[Facts]) -> Facts:
    """One after the other; equal texts become one."""
    known: dict[str, int] = {}
    paths: list[str] = []
    rows = []
    for part in parts:
        places = np.array([known.setdefault(text, len(known)) for text in part.texts], dtype=np.int32)
        moved = part.rows.copy()
        if len(moved):
            for column in ("scored", "trained", "made"):
                moved[column] = places[part.rows[column]]
        paths += part.paths
        rows.append(moved)
    return Facts(paths, np.concatenate(rows) if rows else np.zeros(0, dtype=ROW), list(known))
