"""The one scheduler loop. It owns order, hard time limits, retries and Ctrl-C; executors only start processes.

A cell is done if and only if its record is in the store; exit codes and event files are hints. So the loop may be
killed at any moment and started again.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lossbench.execution.base import Executor, Handle, Job, Observer, Outcome
from lossbench.execution.events import EventReader
from lossbench.execution.spec import EXIT_BUSY, EXIT_CHECKPOINTED, EXIT_DONE, write_json
from lossbench.store import Store

#: Deaths that say nothing about the cell: killed or hung up from outside, or the fork server died (255).
INFRASTRUCTURE_DEATHS = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, 255})
#: How often a cell is started again after such a death (the kernel's out-of-memory killer looks like one).
RETRIES = 1
#: Seconds a worker has between being asked to checkpoint and being killed.
GRACE_S = 30.0
#: Seconds before a cell held by another process is looked at again.
BUSY_WAIT_S = 1.0
#: Seconds between looks at the events of running cells; the end of a worker is told at once.
POLL_S = 0.1


@dataclass
class _Running:
    job: Job
    handle: Handle
    device: str
    events: EventReader
    started: float = field(default_factory=time.monotonic)
    asked: float | None = None
    timed_out: bool = False


class Scheduler:
    """Runs jobs on an executor to the end.

    Args:
        grace_s: see GRACE_S.
    """

    def __init__(self, executor: Executor, store: Store, observer: Observer, *, grace_s: float = GRACE_S) -> None:
        self._executor, self._store, self._observer, self._grace = executor, store, observer, grace_s
        self._waiting: list[Job] = []
        self._running: list[_Running] = []
        self._outcomes: list[Outcome] = []
        self._seconds: dict[tuple[str, ...], float] = {}
        self.interrupts = 0

    def run(self, jobs: list[Job]) -> list[Outcome]:
        """All outcomes, in the order of their ends. Never raises for what a cell does."""
        self._waiting = sorted(jobs, key=self._order)
        with self._signals():
            try:
                while self._waiting or self._running:
                    self._tick()
            finally:
                for running in self._running:
                    running.handle.kill()
        return self._outcomes

    def _order(self, job: Job) -> tuple[int, float]:
        """Seeds outermost, so that a half-done suite compares all losses on the same seeds. Within a seed what took
        longest with another seed goes first, the unknown before it: no long cell is left to run alone at the end."""
        return job.cell.seed, -self._seconds.get(_kind(job), math.inf)

    def _tick(self) -> None:
        if self.interrupts:
            self._interrupt()
        else:
            self._launch()
        self._executor.wait(POLL_S)
        for running in list(self._running):
            self._follow(running)
            self._limit(running)
            code = running.handle.poll()
            if code is not None:
                self._running.remove(running)
                self._executor.give_back(running.device)
                self._follow(running)
                self._ended(running, code)

    def _launch(self) -> None:
        now = time.monotonic()
        for job in list(self._waiting):
            if job.not_before > now:
                continue
            if self._store.has(job.cell):  # somebody else's scheduler was faster
                self._waiting.remove(job)
                self._finish(Outcome(job, "done", elsewhere=True))
                continue
            device = self._executor.take_device()
            if device is None:
                return
            self._waiting.remove(job)
            self._start(job, device)

    def _start(self, job: Job, device: str) -> None:
        job.spec = replace(job.spec, device=device)
        events = job.spec.run_dir / "events.jsonl"
        try:
            path = job.spec.write()
            reader = EventReader(events, offset=events.stat().st_size if events.exists() else 0)
            handle = self._executor.submit(path)
        except (OSError, EOFError) as error:  # a full disk, a fork server that died: running cells go on
            self._executor.give_back(device)
            if self.interrupts or job.infrastructure_deaths < RETRIES:
                job.infrastructure_deaths += 1
                job.not_before = time.monotonic() + BUSY_WAIT_S
                self._waiting.append(job)
            else:
                self._fail(job, 0.0, "NotStarted", f"its worker could not be started: {error}", None)
            return
        self._running.append(_Running(job, handle, device, reader))
        self._observer.started(job)

    def _follow(self, running: _Running) -> None:
        for event in running.events.new():
            self._observer.progressed(running.job, event)

    def _limit(self, running: _Running) -> None:
        """Hard time limit, escalating: ask for a checkpoint, then kill."""
        now = time.monotonic()
        minutes = running.job.minutes
        if running.asked is None and minutes is not None and now - running.started > minutes * 60:
            running.timed_out, running.asked = True, now
            running.handle.stop()
        if running.asked is not None and now - running.asked > self._grace:
            running.handle.kill()

    def _interrupt(self) -> None:
        """First Ctrl-C: no new cells, everybody checkpoints. Second: kill."""
        for job in self._waiting:
            self._finish(Outcome(job, "interrupted"))
        self._waiting.clear()
        for running in self._running:
            if self.interrupts > 1:
                running.handle.kill()
            elif running.asked is None:
                running.asked = time.monotonic()
                running.handle.stop()

    def _ended(self, running: _Running, code: int) -> None:
        job, seconds = running.job, time.monotonic() - running.started
        if self._store.has(job.cell):
            if code == EXIT_DONE:
                self._seconds[_kind(job)] = seconds
                self._waiting.sort(key=self._order)
            self._finish(Outcome(job, "done", seconds, elsewhere=code == EXIT_BUSY))
        elif running.timed_out:
            message = f"ran past its limit of {job.minutes:g} minutes; its checkpoint is kept"
            self._fail(job, seconds, "Timeout", message, "raise resources.minutes and run again: it resumes")
        elif self.interrupts:
            self._finish(Outcome(job, "interrupted", seconds))
        elif code == EXIT_BUSY:
            job.not_before = time.monotonic() + BUSY_WAIT_S
            self._waiting.append(job)
        elif code == EXIT_CHECKPOINTED:
            self._waiting.insert(0, job)
        elif code in INFRASTRUCTURE_DEATHS and job.infrastructure_deaths < RETRIES:
            job.infrastructure_deaths += 1
            self._observer.said(f"{job.cell.name}: worker {death(code)}; starting it again from its checkpoint")
            self._waiting.insert(0, job)
        elif code < 0 or code in INFRASTRUCTURE_DEATHS:
            hint = "out of memory? see the kernel's log" if code == -signal.SIGKILL else None
            self._fail(job, seconds, "Killed", f"worker {death(code)}", hint)
        elif code == EXIT_DONE:
            self._fail(job, seconds, "NoRecord", "worker ended well but left no record", "this is a bug in lossbench")
        else:
            error = read_error(job.spec.run_dir)
            if error is None:
                self._fail(job, seconds, "Died", f"worker ended with exit code {code}", None)
            else:
                self._finish(Outcome(job, "failed", seconds, error))

    def _fail(self, job: Job, seconds: float, kind: str, message: str, hint: str | None) -> None:
        error = {"kind": kind, "message": message, "hint": hint, "exit_code": 1, "when": time.time()}
        with suppress(OSError):  # the outcome says it anyway
            write_json(job.spec.run_dir / "error.json", error)
        self._finish(Outcome(job, "failed", seconds, error))

    def _finish(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._observer.finished(outcome)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count Ctrl-C (and a SIGTERM as the first) instead of raising in the middle of things."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, frame: object) -> None:
            self.interrupts += 1
            if self.interrupts == 1:
                self._observer.said("stopping: running cells write a checkpoint (press Ctrl-C again to kill them)")

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _kind(job: Job) -> tuple[str, ...]:
    """What a cell has in common with those of other seeds."""
    return tuple(component.label for component in job.cell.components.values())


def death(code: int) -> str:
    """`was killed by SIGKILL`, in words."""
    if code >= 0:
        return f"was lost (exit code {code})"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def read_error(run_dir: Path) -> dict[str, Any] | None:
    """The failure a worker left, or None."""
    try:
        data = json.loads((run_dir / "error.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
