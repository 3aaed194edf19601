"""What a run shows while it runs: one live display on a terminal, one plain line per finished cell elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from lossbench import metrics
from lossbench.cli.common import duration
from lossbench.errors import RecordError
from lossbench.execution.base import Job, Outcome
from lossbench.store import Store


class Tally:
    """Work done and to do, in optimiser steps, and the time that is left. Sums are kept, not made: a suite may have
    ten thousand cells."""

    def __init__(self, jobs: list[Job]) -> None:
        self.cells = len(jobs)
        self.done = self.failed = 0
        self._steps: dict[str, int] = {}
        self._start: dict[str, int] = {}
        self._total = sum(job.cell.protocol.iterations for job in jobs)
        self._reached = self._skipped = 0
        self.started = time.monotonic()

    def at(self, job: Job, step: int) -> None:
        self._begin(job, step)  # a resumed cell's earlier steps were not done now
        self._reach(job, step)

    def finished(self, outcome: Outcome) -> None:
        job = outcome.job
        self.done += outcome.status == "done"
        self.failed += outcome.status == "failed"
        if outcome.elsewhere or outcome.status != "done":
            self._skipped -= self._start.pop(job.cell.id, 0)
            self._begin(job, job.cell.protocol.iterations)
        self._begin(job, 0)
        self._reach(job, job.cell.protocol.iterations)

    def _begin(self, job: Job, step: int) -> None:
        if job.cell.id not in self._start:
            self._start[job.cell.id] = step
            self._skipped += step

    def _reach(self, job: Job, step: int) -> None:
        self._reached += step - self._steps.get(job.cell.id, 0)
        self._steps[job.cell.id] = step

    @property
    def ended(self) -> int:
        return self.done + self.failed

    @property
    def fraction(self) -> float:
        return self._reached / max(1, self._total)

    def eta(self) -> str:
        """`12 min left`, or nothing before there is anything to judge by."""
        now_done, left = self._reached - self._skipped, self._total - self._reached
        elapsed = time.monotonic() - self.started
        return f"{duration(left * elapsed / now_done)} left" if now_done > 0 and elapsed > 2 else ""


def finished_line(outcome: Outcome, tally: Tally, miou: float | None) -> str:
    """`[3/12] done  streets/fcn_timm/ce/seed0  mIoU 41.23  21 s`."""
    parts = [f"[{tally.ended}/{tally.cells}] {outcome.status:<6}", outcome.job.cell.name]
    if miou is not None:
        parts.append(f"mIoU {100 * miou:.2f}")
    if outcome.elsewhere:
        parts.append("(by another process)")
    elif outcome.seconds:
        parts.append(duration(outcome.seconds))
    if outcome.status == "failed":
        parts.append(f"- {outcome.error.get('message', 'unknown error')}")
    return "  ".join(parts)


class PlainProgress:
    """Plain lines, for pipes, logs and `NO_COLOR`."""

    def __init__(self, console: Console, jobs: list[Job], store: Store) -> None:
        self._console, self._store = console, store
        self.tally = Tally(jobs)

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def started(self, job: Job) -> None:
        return None

    def progressed(self, job: Job, event: dict[str, Any]) -> None:
        if "step" in event:
            self.tally.at(job, event["step"])

    def finished(self, outcome: Outcome) -> None:
        self.tally.finished(outcome)
        if outcome.status != "interrupted":
            self.said(finished_line(outcome, self.tally, self._miou(outcome)))

    def _miou(self, outcome: Outcome) -> float | None:
        try:
            record = self._store.load(outcome.job.cell) if outcome.status == "done" else None
        except RecordError:  # of a newer lossbench: the leaderboard warns
            return None
        return None if record is None else metrics.mean_iou(record.confusion)

    def said(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)


class LiveProgress(PlainProgress):
    """One display: a bar for the suite, a bar per running cell with its loss and running training mIoU."""

    def __init__(self, console: Console, jobs: list[Job], store: Store) -> None:
        super().__init__(console, jobs, store)
        self._bars = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, width=24)),
            console=console,
            expand=True,
        )
        places = {(job.cell.dataset.label, job.cell.backbone.label) for job in jobs}
        self._one_place = len(places) == 1
        self._suite = self._bars.add_task("all cells", total=1.0, note="starting workers")
        self._tasks: dict[str, TaskID] = {}
        self._live = Live(Group(Text(""), self._bars), console=console, refresh_per_second=5, transient=True)

    def __enter__(self) -> LiveProgress:
        self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.__exit__(None, None, None)

    def started(self, job: Job) -> None:
        earlier = self._tasks.pop(job.cell.id, None)
        if earlier is not None:  # its worker died and is started again
            self._bars.remove_task(earlier)
        self._tasks[job.cell.id] = self._bars.add_task(
            self._name(job), total=job.cell.protocol.iterations, note="starting"
        )

    def _name(self, job: Job) -> str:
        """What tells cells apart, short enough for 80 columns: cut at the left, for loss and seed are at the right."""
        if self._one_place:
            return f"{job.cell.loss.label}/seed{job.cell.seed}"
        room = max(24, self._console.width - 46)
        name = job.cell.name
        return name if len(name) <= room else "..." + name[-room + 3 :]

    def progressed(self, job: Job, event: dict[str, Any]) -> None:
        super().progressed(job, event)
        task = self._tasks.get(job.cell.id)
        if task is None:
            return
        if event["event"] == "step":
            note = f"loss {event['loss']:.3g}  mIoU {100 * event['miou']:.1f}"
            self._bars.update(task, completed=event["step"], note=note)
        elif event["event"] == "eval" and "done" in event:
            self._bars.update(task, note=f"scoring {event['done']}/{event['total']}")
        self._update_suite()

    def finished(self, outcome: Outcome) -> None:
        task = self._tasks.pop(outcome.job.cell.id, None)
        if task is not None:
            self._bars.remove_task(task)
        super().finished(outcome)
        self._update_suite()

    def _update_suite(self) -> None:
        tally = self.tally
        note = f"{tally.ended}/{tally.cells} cells  {tally.eta()}"
        self._bars.update(self._suite, completed=tally.fraction, note=note)
