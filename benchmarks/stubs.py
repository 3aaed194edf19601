"""Stub cells: all that a cell is to the scheduler (claim, spec, events, checkpoint, record, exit code) and no training.

`python -m benchmarks.stubs SUITE RESULTS [SLOTS]` runs those of a suite; a JSON line on stdout says what it took.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench import PROTOCOL
from lossbench.cells import Cell
from lossbench.execution.base import Job, Outcome
from lossbench.execution.capacity import Capacity
from lossbench.execution.events import EventWriter
from lossbench.execution.local import LocalExecutor
from lossbench.execution.plugins import code_hashes
from lossbench.execution.scheduler import Scheduler
from lossbench.execution.spec import CHECKPOINTS, Spec, write_json
from lossbench.execution.worker import forked_main
from lossbench.records import Record
from lossbench.store import Store
from lossbench.suite import load_suite

CLASSES, IMAGES, PIXELS = ("road", "building", "sky", "tree", "car"), 4, 1000
LOSSES = ("ce", "focal", "dice", "balanced_ce", "tversky", "jaccard", "uce", "df", "cdfl", "lovasz_softmax")
STEPS = 5
SUITE = """\
datasets: [{{name: streets, height: 48, width: 64, train_images: 12, val_images: 6}}]
backbones: [{{name: fcn_timm, weights: none}}]
losses: [{losses}]
seeds: {seeds}
protocol: {{iterations: 5, batch_size: 4, crop: [32, 48], optimizer: adamw, lr: 0.002, min_lr: 0.0}}
"""


def write_suite(path: Path, cells: int) -> Path:
    """A suite of so many cells; a multiple of ten."""
    path.write_text(SUITE.format(losses=", ".join(LOSSES), seeds=cells // len(LOSSES)))
    return path


class StubRun:
    """Stands in for `CellRun`: counts to STEPS, with a checkpoint after each, and makes up a record.

    Args:
        step_s: seconds a step sleeps.
    """

    def __init__(self, spec: Spec, should_stop: Callable[[], bool], *, step_s: float = 0.0) -> None:
        self.spec, self.cell, self._should_stop, self._step_s = spec, spec.parse_cell(), should_stop, step_s
        self._checkpoint = spec.run_dir / CHECKPOINTS[0]
        self._events = EventWriter(spec.run_dir / "events.jsonl")

    def run(self) -> tuple[Record, NDArray[np.int32], list[str]] | None:
        step = json.loads(self._checkpoint.read_text())["step"] if self._checkpoint.is_file() else 0
        self._events.send("start", step=step, iterations=STEPS)
        while step < STEPS:
            if self._should_stop():
                return None
            time.sleep(self._step_s)
            step += 1
            if self._step_s:
                write_json(self._checkpoint, {"step": step})
            self._events.send("step", step=step, iterations=STEPS, loss=1.0, miou=0.5)
        return record_of(self.cell, self.spec.code)

    def keep(self) -> None:
        """Nothing to keep."""


def record_of(cell: Cell, code: dict[str, str]) -> tuple[Record, NDArray[np.int32], list[str]]:
    """A record with plausible numbers that are a function of the cell."""
    random = np.random.default_rng(int(cell.id, 16))
    matrices = np.zeros((IMAGES, len(CLASSES), len(CLASSES)), dtype=np.int64)
    for image in range(IMAGES):
        for true in range(len(CLASSES)):
            odds = np.full(len(CLASSES), 0.05)
            odds[true] = 0.8
            matrices[image, true] = random.multinomial(PIXELS, odds)
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    counts = np.stack([hits, matrices.sum(1) - hits, matrices.sum(2) - hits], axis=-1).astype(np.int32)
    record = Record(
        cell=cell.identity,
        labels={"dataset": cell.dataset.label, "backbone": cell.backbone.label, "loss": cell.loss.label},
        status="ok",
        class_names=list(CLASSES),
        confusion=matrices.sum(axis=0),
        train_pixels=[IMAGES * PIXELS] * len(CLASSES),
        curve={"step": [0, STEPS], "loss": [2.0, 1.0], "lr": [0.1, 0.01]},
        costs={"ms_per_step": 1.0, "ms": {"total": 1.0}, "peak_memory_mb": 1.0, "train_s": 1.0, "eval_s": 1.0},
        provenance={"protocol": PROTOCOL, "code": code, "packages": {}, "hardware": {"cpu": "none"}, "data": {}},
    )
    return record, counts, [str(image) for image in range(IMAGES)]


def stub_main(spec: str) -> None:
    """What the fork server's children do: a cell that takes no time."""
    forked_main(spec, StubRun)


class Silent:
    """An observer that counts how cells ended."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()

    def started(self, job: Job) -> None: ...

    def progressed(self, job: Job, event: dict[str, object]) -> None: ...

    def finished(self, outcome: Outcome) -> None:
        self.ends[outcome.status] += 1

    def said(self, message: str) -> None: ...


def run_stubs(
    suite: Path,
    results: Path,
    *,
    slots: int = 2,
    target: Callable[[str], None] = stub_main,
    preload: Sequence[str] = ("benchmarks.stubs",),
) -> Counter[str]:
    """Run the cells of a suite that have no record as stubs; how they ended.

    The fork server imports what stubs need and no torch: what is measured is the scheduler's work for a cell.
    """
    loaded, store, observer = load_suite(suite), Store(results), Silent()
    store.ensure_writable()
    cells = [cell for cell in loaded.cells() if not store.has(cell)]
    code = code_hashes(cells, loaded.registries)
    executor = LocalExecutor(Capacity(["cpu"], slots, cores=slots), preload, target, warm=False)
    executor.warm_up()
    jobs = [
        Job(cell, Spec(cell.to_json(), cell.id, results, results, results, code={str(k): v for k, v in hashes.items()}))
        for cell, hashes in zip(cells, code, strict=True)
    ]
    Scheduler(executor, store, observer).run(jobs)
    return observer.ends


def main(suite: str, results: str, slots: str = "2") -> None:
    started = time.perf_counter()
    ends = run_stubs(Path(suite), Path(results), slots=int(slots))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    took = {"seconds": time.perf_counter() - started, "cpu_s": usage.ru_utime + usage.ru_stime}
    print(json.dumps({**took, "peak_mib": _peak_mib(), **ends}))


def _peak_mib() -> float:
    """This program's own peak: `ru_maxrss` starts with that of who started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    from benchmarks import stubs  # by its name, not as __main__: the children have to find it

    stubs.main(*sys.argv[1:])
