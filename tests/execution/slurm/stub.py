"""A worker whose cells need no torch: it counts to the cell's iterations, a few a second, and leaves a made-up record.
All around it is the real thing: lock, log, signals, exit codes, checkpoint, store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lossbench.execution.events import EventWriter
from lossbench.execution.spec import Spec
from lossbench.execution.worker import run_spec
from tests.factories import make_record

PAUSE_S = 0.05


class CellRun:
    """Counts instead of training, and does not end while there is a file `hold` in the results folder."""

    def __init__(self, spec: Spec, should_stop: Callable[[], bool]) -> None:
        self.spec, self.should_stop = spec, should_stop

    def run(self) -> Any:
        checkpoint = self.spec.run_dir / "checkpoint.pt"
        step = int(checkpoint.read_text()) if checkpoint.exists() else 0
        events = EventWriter(self.spec.run_dir / "events.jsonl")
        iterations = self.spec.cell["protocol"]["iterations"]
        print(f"begins at {step}", flush=True)
        events.send("start", step=step, iterations=iterations)
        while step < iterations or (self.spec.results / "hold").exists():
            if self.should_stop():
                checkpoint.write_text(str(step))
                return None
            time.sleep(PAUSE_S)
            step = min(step + 1, iterations)
            events.send("step", step=step, iterations=iterations, loss=1.0, miou=0.0)
        cell = self.spec.parse_cell()
        _, record, per_image = make_record(loss=cell.loss.name, seed=cell.seed, protocol={"iterations": iterations})
        with (self.spec.results / "ends.txt").open("a") as file:
            file.write(cell.id + "\n")
        return record, per_image, [f"image_{i}" for i in range(len(per_image))]

    def keep(self) -> None:
        """Nothing is worth it."""


if __name__ == "__main__":
    sys.exit(run_spec(Path(sys.argv[1]), CellRun))
