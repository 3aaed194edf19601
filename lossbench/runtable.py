"""Many records as columns: what a leaderboard reads, whether it comes from the files or from the index.

Runs share nearly everything but seed and scores; what they share is a **condition**, kept once. A hundred thousand
records are then a few arrays and a few hundred conditions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.cells import canonical_json

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Columns of `RunTable.scores`: `metrics.summary` without the image-averaged scores.
SCORES = (
    "miou", "macc", "mprecision", "mrecall", "mf1", "pixel_accuracy", "fwiou", "head_miou", "middle_miou", "tail_miou",
)  # fmt: skip
#: Columns of `RunTable.costs`: those of `Record.costs` that are numbers.
COSTS = ("ms_per_step", "peak_memory_mb", "extra_forwards", "train_s", "eval_s")


@dataclass(frozen=True)
class Condition:
    """What a run shares with those that differ from it in seed and scores alone; fields as in `Record`.

    Attributes:
        cell: `Cell.identity` without the seed.
        truth: scored pixels by true class (C); all 0 for a run that scored nothing.
        provenance: its `protocol`, `code` and `hardware`.
    """

    cell: dict[str, Any]
    labels: dict[str, str]
    status: str
    class_names: list[str]
    absent_class_rule: str
    train_pixels: list[int]
    truth: list[int]
    provenance: dict[str, Any]

    @property
    def scored(self) -> bool:
        return any(self.truth)

    def to_json(self) -> str:
        return json.dumps([getattr(self, field.name) for field in fields(self)])

    @classmethod
    def from_json(cls, text: str) -> Condition:
        return cls(*json.loads(text))

    @cached_property
    def machine(self) -> str:
        """What times and memory depend on beside the cell: two runs' times compare only if this is equal."""
        return machine(self.provenance)


def machine(provenance: Mapping[str, Any]) -> str:
    """Processor, threads, device and GPU of a record's provenance, as one text."""
    hardware = provenance.get("hardware") or {}
    gpu = hardware.get("gpu") or {}
    return canonical_json([hardware.get(key) for key in ("cpu", "threads", "device")] + [gpu.get("name")])


def cost(costs: Mapping[str, Any], key: str) -> float:
    """A cost of a record, NaN where it has none."""
    value = costs.get(key)
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # an integer beyond all floats
        return math.nan


@dataclass(frozen=True)
class RunTable:
    """n runs as columns.

    Attributes:
        folder, paths: where the JSON files lie: `folder / paths[i]`.
        conditions: each once.
        condition: (n) index into `conditions`.
        ids: (n) the records' ids as unsigned integers of 64 bits.
        seeds: (n).
        costs, scores: (n, len(COSTS)), (n, len(SCORES)); scores are fractions.
        fine: (n, len(finescores.FINE)), NaN where a record has no counts for them.
        counts: TP, FP, FN of every class of every run, one run after the other, flat: every other figure is derived
            from them.
    """

    folder: Path
    paths: list[str]
    conditions: list[Condition]
    condition: NDArray[np.int32]
    ids: NDArray[np.uint64]
    seeds: Ints
    costs: Floats
    scores: Floats
    fine: Floats
    counts: Ints

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def starts(self) -> Ints:
        """(n + 1) where the counts of each run begin."""
        sizes = np.array([3 * len(condition.class_names) for condition in self.conditions], dtype=np.int64)
        return np.concatenate([[0], np.cumsum(sizes[self.condition], dtype=np.int64)]).astype(np.int64)

    def counts_of(self, rows: Ints) -> Ints:
        """TP, FP, FN (len(rows), C, 3) of runs of equally many classes."""
        if not len(rows):
            return np.zeros((0, 0, 3), dtype=np.int64)
        first = self.starts[rows]
        width = int(self.starts[rows[0] + 1] - first[0])
        counts: Ints = self.counts[first[:, None] + np.arange(width)]
        return counts.reshape(len(rows), -1, 3)

    def path(self, row: int) -> Path:
        return self.folder / self.paths[row]

    def take(self, rows: Ints) -> RunTable:
        """The table of these rows, in their order."""
        sizes = (self.starts[1:] - self.starts[:-1])[rows]
        ends = np.cumsum(sizes)
        # Position within all the counts taken, minus where its run begins there, plus where it begins here.
        source = np.arange(int(sizes.sum())) + np.repeat(self.starts[rows] - (ends - sizes), sizes)
        return RunTable(
            folder=self.folder,
            paths=[self.paths[row] for row in rows.tolist()],
            conditions=self.conditions,
            condition=self.condition[rows],
            ids=self.ids[rows],
            seeds=self.seeds[rows],
            costs=self.costs[rows],
            scores=self.scores[rows],
            fine=self.fine[rows],
            counts=self.counts[source],
        )


def hex_ids(ids: NDArray[np.uint64]) -> list[str]:
    """Ids as records and tables spell them."""
    return [f"{number:016x}" for number in ids.tolist()]


def concatenate(folder: Path, tables: Sequence[RunTable]) -> RunTable:
    """One table after the other; equal conditions become one."""
    known: dict[str, int] = {}
    conditions: list[Condition] = []
    columns = []
    for table in tables:
        places = []
        for condition in table.conditions:
            key = condition.to_json()
            if key not in known:
                known[key] = len(conditions)
                conditions.append(condition)
            places.append(known[key])
        columns.append(np.array(places, dtype=np.int32)[table.condition])
    return RunTable(
        folder=folder,
        paths=[path for table in tables for path in table.paths],
        conditions=conditions,
        condition=np.concatenate(columns),
        ids=np.concatenate([table.ids for table in tables]),
        seeds=np.concatenate([table.seeds for table in tables]),
        costs=np.concatenate([table.costs for table in tables]),
        scores=np.concatenate([table.scores for table in tables]),
        fine=np.concatenate([table.fine for table in tables]),
        counts=np.concatenate([table.counts for table in tables]),
    )
