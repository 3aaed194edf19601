"""Stub cells that keep a journal, and the scheduler process of the randomised test.

`python -m tests.execution.faults.journal SUITE RESULTS SLOTS`; the journal lies beside the results.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.stubs import STEPS, StubRun, run_stubs
from lossbench.cells import Cell
from lossbench.execution.spec import Spec
from lossbench.execution.worker import forked_main
from lossbench.store import Store

JOURNAL = "journal.txt"


def note(results: Path, what: str, cell_id: str) -> None:
    """One line, whole or not at all, also from many processes."""
    file = os.open(results.parent / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{what} {cell_id} {os.getpid()}\n".encode())
    os.close(file)


class NotedRun(StubRun):
    """Notes `begin` when it holds the cell, `overlap` when another does, too, and `stored` once the record is there."""

    def __init__(self, spec: Spec, should_stop: Callable[[], bool]) -> None:
        super().__init__(spec, should_stop, step_s=random.Random(spec.cell_id).uniform(0.02, 0.06) / STEPS)
        self._alone = os.open(spec.run_dir / "alone", os.O_WRONLY | os.O_CREAT)
        try:
            fcntl.flock(self._alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(spec.results, "overlap", spec.cell_id)
        note(spec.results, "begin", spec.cell_id)


def noted_main(spec: str) -> None:
    """What the fork server's children do."""
    write = Store.write_first

    def noted_write(store: Store, cell: Cell, *arguments: Any) -> bool:
        written = write(store, cell, *arguments)
        note(store.root, "stored", cell.id)
        return written

    Store.write_first = noted_write  # type: ignore[method-assign]
    forked_main(spec, NotedRun)


def main(suite: str, results: str, slots: str) -> None:
    module = "tests.execution.faults.journal"
    run_stubs(Path(suite), Path(results), slots=int(slots), target=noted_main, preload=(module,))


if __name__ == "__main__":
    from tests.execution.faults import journal  # by its name, not as __main__: the children have to find it

    journal.main(*sys.argv[1:])
