"""What a results folder knows of the past, in the form the plan asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from lossbench.cells import Cell
from lossbench.plan import PastCost, RunState, read_run_state
from lossbench.provenance import stale_reasons
from lossbench.records import Record
from lossbench.registry import Kind, Registry
from lossbench.store import Store


class StoreHistory:
    """`plan.History` over a store, read once.

    Attributes:
        warnings: a line for each record file that had to be skipped.
    """

    def __init__(self, store: Store, registries: Mapping[Kind, Registry]) -> None:
        self._store, self._registries = store, registries

    @cached_property
    def _read(self) -> tuple[dict[str, Record], list[str]]:
        stored, warnings = self._store.read_all()
        return {item.record.id: item.record for item in stored}, warnings

    @property
    def warnings(self) -> list[str]:
        return self._read[1]

    def record(self, cell: Cell) -> Record | None:
        return self._read[0].get(cell.id)

    def has(self, cell: Cell) -> bool:
        return cell.id in self._read[0] or self._store.has(cell)

    def stale_reasons(self, cell: Cell) -> Sequence[str]:
        record = self.record(cell)
        return stale_reasons(record, self._registries) if record is not None else ()

    def run_state(self, cell_id: str) -> RunState | None:
        return read_run_state(self._store.run_dir(cell_id))

    def costs(self) -> Iterator[PastCost]:
        for record in self._read[0].values():
            train_s, eval_s = record.costs.get("train_s"), record.costs.get("eval_s")
            if isinstance(train_s, int | float) and isinstance(eval_s, int | float):
                hardware = record.provenance.get("hardware", {})
                device = hardware.get("gpu") or hardware.get("cpu") or ""
                yield PastCost(record.cell, float(train_s), float(eval_s), str(device))
