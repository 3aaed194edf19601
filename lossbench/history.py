"""What a results folder knows of the past, in the form the plan asks for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from lossbench.cells import Cell
from lossbench.execution.slurm_queue import states
from lossbench.execution.submission import FILE as SUBMISSION
from lossbench.execution.submission import read_submission
from lossbench.plan import PastCost, RunState, read_run_state
from lossbench.provenance import stale_reasons
from lossbench.registry import Kind, Registry
from lossbench.runtable import COSTS, SCORES, RunTable
from lossbench.store import Store

if TYPE_CHECKING:
    from lossbench.data.drift import DataDrift


class StoreHistory:
    """`plan.History` over a store, read once.

    Args:
        data: what knows the data of today; without it, only other code makes a record stale.

    Attributes:
        warnings: a line for each record file that had to be skipped.
    """

    def __init__(self, store: Store, registries: Mapping[Kind, Registry], data: DataDrift | None = None) -> None:
        self._store, self._registries, self._data = store, registries, data
        self._drifted: dict[int, bool] = {}

    @cached_property
    def _read(self) -> tuple[RunTable, list[str]]:
        return self._store.runs()

    @property
    def warnings(self) -> list[str]:
        return self._read[1]

    @cached_property
    def _rows(self) -> dict[int, int]:
        return {number: row for row, number in enumerate(self._read[0].ids.tolist())}

    def _row(self, cell: Cell) -> int | None:
        return self._rows.get(int(cell.id, 16))

    def has(self, cell: Cell) -> bool:
        return self._row(cell) is not None or self._store.has(cell)

    def miou(self, cell: Cell) -> float | None:
        """Mean IoU of the cell's record, a fraction; None without a record."""
        row = self._row(cell)
        return None if row is None else float(self._read[0].scores[row, SCORES.index("miou")])

    def stale_reasons(self, cell: Cell) -> Sequence[str]:
        row = self._row(cell)
        if row is None:
            return ()
        number = int(self._read[0].condition[row])
        if self._data is not None and number not in self._drifted:
            self._drifted[number] = self._data.changed(cell, self._read[0].conditions[number])
        other = f"data of {cell.dataset.label} changed since (other labelled pixels per class)"
        return [*self._reasons[number], *([other] if self._drifted.get(number) else [])]

    def doubtful_data(self, cells: Iterable[Cell]) -> list[str]:
        """Labels of the datasets whose files are others than those of their records, nobody can tell how; one record of
        each is read."""
        if self._data is None:
            return []
        one = {cell.dataset.label: cell for cell in cells if self._row(cell) is not None}
        records = {label: self._store.load(cell) for label, cell in one.items()}
        return [
            label
            for label, record in records.items()
            if record is not None and self._data.doubtful(one[label], record.provenance.get("data") or {})
        ]

    @cached_property
    def _reasons(self) -> list[list[str]]:
        return [stale_reasons(condition, self._registries) for condition in self._read[0].conditions]

    def run_state(self, cell_id: str) -> RunState | None:
        folder = self._store.run_dir(cell_id)
        submitted = (folder / SUBMISSION).is_file()
        return read_run_state(folder, self._cluster if submitted else None)

    @cached_property
    def _cluster(self) -> Mapping[str, str] | None:
        """What the cluster says of all jobs that run folders tell of: asked once, and only if there are any."""
        folders = (file.parent for file in (self._store.root / "runs").glob(f"*/{SUBMISSION}"))
        return states(found.job for folder in folders if (found := read_submission(folder)) is not None)

    def costs(self) -> Iterator[PastCost]:
        table = self._read[0]
        devices = []
        for condition in table.conditions:
            hardware = condition.provenance["hardware"] or {}
            devices.append((str(hardware.get("gpu") or hardware.get("cpu") or ""), bool(hardware.get("gpu"))))
        train, evaluation = (table.costs[:, COSTS.index(key)].tolist() for key in ("train_s", "eval_s"))
        for place, train_s, eval_s in zip(table.condition.tolist(), train, evaluation, strict=True):
            if not (math.isnan(train_s) or math.isnan(eval_s)):
                yield PastCost(table.conditions[place].cell, train_s, eval_s, *devices[place])
