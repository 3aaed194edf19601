"""The one scheduler loop. It owns order, hard time limits, retries and Ctrl-C; executors only start processes.

A cell is done if and only if its record is in the store; exit codes and event files are hints. So the loop may be
killed at any moment and started again.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lossbench.errors import UNWRITABLE_HINT, SetupError, disk_error
from lossbench.execution.base import Executor, Handle, Job, NotNow, Observer, Outcome, Place
from lossbench.execution.claim import holder
from lossbench.execution.events import EventReader
from lossbench.execution.queue import Queue
from lossbench.execution.spec import (
    EXIT_BUSY,
    EXIT_CANCELLED,
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    EXIT_LOST,
    EXIT_OUT_OF_MEMORY,
    EXIT_UNWRITABLE,
    failure,
    timeout,
    write_json,
)
from lossbench.processes import Process
from lossbench.store import Store

#: Deaths that say nothing about the cell: killed or hung up from outside, or lost with its machine.
INFRASTRUCTURE_DEATHS = frozenset({-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, EXIT_LOST})
#: How often a cell is started again after such a death, if it left no further checkpoint in between: a long one may
#: outlive any number of machines.
RETRIES = 1
#: Seconds a worker has between being asked to checkpoint and being told to leave, and from there to being killed.
GRACE_S = 30.0
TERMINATE_S = 5.0
#: Seconds before a cell held by another process is looked at again; on another machine ever longer, up to the second.
BUSY_WAIT_S = 1.0
BUSY_MOST_S = 15.0


@dataclass
class _Running:
    job: Job
    handle: Handle
    place: Place | None
    events: EventReader
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    asked: float | None = None
    timed_out: bool = False
    terminated: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - (self.submitted if self.started is None else self.started)


class Scheduler:
    """Runs jobs on an executor to the end.

    Args:
        grace_s: see GRACE_S.
    """

    def __init__(self, executor: Executor, store: Store, observer: Observer, *, grace_s: float = GRACE_S) -> None:
        self._executor, self._store, self._observer, self._grace = executor, store, observer, grace_s
        self._waiting = Queue()
        self._running: list[_Running] = []
        self._outcomes: list[Outcome] = []
        self._elsewhere: Counter[Job] = Counter()
        self.interrupts = 0

    def run(self, jobs: list[Job]) -> list[Outcome]:
        """All outcomes, in the order of their ends. Never raises for what a cell does."""
        with self._signals():
            try:
                for job in jobs:
                    self._take(job)
                while (self._waiting or self._running) and self.interrupts <= 2:
                    self._tick()
            finally:
                for running in self._running:  # of a third Ctrl-C, or of a bug: nobody waits for them any more
                    with suppress(OSError):
                        running.handle.kill()
                    self._finish(Outcome(running.job, "interrupted", running.seconds))
                self._executor.close()
        return self._outcomes

    def _take(self, job: Job) -> None:
        """Queue a job, or go on with the worker an earlier scheduler left with a cluster."""
        handle = self._executor.adopt(job.spec, job.request)
        if handle is None:
            self._waiting.add(job)
        else:
            self._follow_up(job, handle, None)

    def _tick(self) -> None:
        if self.interrupts:
            self._interrupt()
        else:
            self._launch()
        self._executor.wait(self._executor.poll_s)
        for running in list(self._running):
            self._limit(running)
            self._follow(running)
            code = running.handle.poll()
            if code is not None:
                self._running.remove(running)
                if running.place is not None:
                    self._executor.release(running.place)
                self._follow(running)
                self._ended(running, code)

    def _launch(self) -> None:
        batch: list[tuple[Job, Place]] = []
        for job in self._waiting.candidates(time.monotonic()):
            if self._store.has(job.cell):  # somebody else's scheduler was faster
                self._waiting.remove(job)
                self._finish(Outcome(job, "done", elsewhere=True))
                continue
            if (process := holder(job.spec.run_dir)) is not None:
                self._look_again(job, process)
                continue
            place = self._executor.reserve(job.request)
            if place is None:
                self._waiting.blocked(job)
                continue
            self._waiting.remove(job)
            batch.append((job, place))
        ready = [(job, place, path) for job, place in batch if (path := self._written(job, place)) is not None]
        handles = self._executor.submit([(path, job.request) for job, _, path in ready]) if ready else []
        for (job, place, _), handle in zip(ready, handles, strict=True):
            if isinstance(handle, Exception):
                self._not_started(job, place, handle)
            else:
                self._follow_up(job, handle, place)

    def _look_again(self, job: Job, process: Process | None) -> None:
        """Later, for another scheduler's worker is at the cell. Its end is seen by the record."""
        wait = BUSY_WAIT_S
        if process is not None and not process.is_here():
            if not self._elsewhere[job]:
                self._observer.said(f"{job.cell.name}: running on {process.host}; waiting for it")
            wait = min(BUSY_WAIT_S * 2 ** self._elsewhere[job], BUSY_MOST_S)
            self._elsewhere[job] += 1
        job.not_before = time.monotonic() + wait

    def _written(self, job: Job, place: Place) -> Path | None:
        """The job's spec file, written; None when it could not be."""
        job.spec = replace(job.spec, devices=place.devices, threads=place.threads)
        with suppress(OSError):  # an older attempt's: this one may end without a word
            (job.spec.run_dir / "error.json").unlink(missing_ok=True)
        try:
            return job.spec.write()
        except OSError as error:  # a full disk: running cells go on
            self._not_started(job, place, error)
            return None

    def _not_started(self, job: Job, place: Place, error: Exception) -> None:
        self._executor.release(place)
        if isinstance(error, NotNow):
            job.not_before = time.monotonic() + error.retry_after_s
            self._waiting.add(job)
        elif self.interrupts or job.infrastructure_deaths < RETRIES:
            job.infrastructure_deaths += 1
            job.not_before = time.monotonic() + BUSY_WAIT_S
            self._waiting.add(job)
        elif (disk := disk_error(error)) is not None:
            self._fail(job, 0.0, failure("SetupError", disk.message, disk.hint, disk.exit_code))
        else:
            self._fail(job, 0.0, failure("NotStarted", f"its worker could not be started: {error}"))

    def _follow_up(self, job: Job, handle: Handle, place: Place | None) -> None:
        """Watch a worker, from what it says from now on."""
        events = job.spec.run_dir / "events.jsonl"
        offset = 0
        if place is not None:
            with suppress(OSError):
                offset = events.stat().st_size
        self._running.append(_Running(job, handle, place, EventReader(events, offset=offset)))

    def _follow(self, running: _Running) -> None:
        for event in running.events.new():
            step = event.get("step", 0) if event.get("event") == "checkpoint" else 0
            if step > running.job.checkpointed:
                running.job.checkpointed, running.job.infrastructure_deaths = step, 0
            self._observer.progressed(running.job, event)

    def _limit(self, running: _Running) -> None:
        """Hard time limit, escalating: ask for a checkpoint, tell it to leave, kill. Counted from its start, not from
        when a cluster's queue took it."""
        now = time.monotonic()
        if not running.handle.running():
            if running.asked is None:
                running.started = None  # a cluster took it back into its queue
        elif running.started is None:
            running.started = now
            self._observer.started(running.job)
        minutes = running.job.request.minutes
        late = running.started is not None and minutes is not None and now - running.started > minutes * 60
        if late and running.asked is None:
            running.timed_out, running.asked = True, now
            running.handle.stop()
        if running.asked is None or now - running.asked <= self._grace:
            return
        if not running.terminated:
            running.terminated = True
            running.handle.terminate()
        elif now - running.asked > self._grace + min(TERMINATE_S, self._grace):
            running.handle.kill()

    def _interrupt(self) -> None:
        """First Ctrl-C: no new cells, everybody checkpoints. Second: kill."""
        for job in self._waiting.clear():
            self._finish(Outcome(job, "interrupted"))
        for running in self._running:
            if self.interrupts > 1:
                running.handle.kill()
            elif running.asked is None:
                running.asked = time.monotonic()
                running.handle.stop()

    def _ended(self, running: _Running, code: int) -> None:
        job, seconds = running.job, running.seconds
        if self._store.has(job.cell):
            if code == EXIT_DONE:
                self._waiting.took(job, seconds)
            self._finish(Outcome(job, "done", seconds, elsewhere=code == EXIT_BUSY))
        elif running.timed_out and job.request.minutes is not None:
            self._fail(job, seconds, timeout(job.request.minutes))
        elif self.interrupts or code == EXIT_CANCELLED:
            self._finish(Outcome(job, "interrupted", seconds))
        elif code == EXIT_BUSY:
            self._look_again(job, holder(job.spec.run_dir))
            self._waiting.add(job)
        elif code == EXIT_CHECKPOINTED:
            self._waiting.add(job, first=True)
        elif code == EXIT_OUT_OF_MEMORY:
            self._out_of_memory(job, seconds)
        elif code in INFRASTRUCTURE_DEATHS and job.infrastructure_deaths < RETRIES:
            job.infrastructure_deaths += 1
            self._observer.said(f"{job.cell.name}: worker {death(code)}; starting it again from its checkpoint")
            self._waiting.add(job, first=True)
        elif code == EXIT_LOST and (error := read_error(job.spec.run_dir)) is not None:  # it had time to say why
            self._finish(Outcome(job, "failed", seconds, error))
        elif code < 0 or code in INFRASTRUCTURE_DEATHS:
            self._fail(job, seconds, failure("Killed", f"worker {death(code)}"))
        elif code == EXIT_UNWRITABLE:
            message = f"cannot write {job.spec.run_dir}: a full or a read-only disk, or a folder that is gone"
            self._fail(job, seconds, failure("SetupError", message, UNWRITABLE_HINT, SetupError.exit_code))
        elif code == EXIT_DONE:
            message = "worker ended well but left no record"
            self._fail(job, seconds, failure("NoRecord", message, "this is a bug in lossbench"))
        else:
            error = read_error(job.spec.run_dir)
            if error is None:
                self._fail(job, seconds, failure("Died", f"worker ended with exit code {code}"))
            else:
                self._finish(Outcome(job, "failed", seconds, error))

    def _out_of_memory(self, job: Job, seconds: float) -> None:
        """Once more with micro-batches of half the size and twice as many: the same effective batch."""
        protocol = job.cell.protocol
        images = protocol.batch_size // protocol.accumulate // len(job.spec.devices)
        if job.spec.split == 1 and images % 2 == 0:
            job.spec = replace(job.spec, split=2)
            self._observer.said(
                f"{job.cell.name}: out of memory; trying again with micro-batches of {images // 2} instead of {images}"
            )
            self._waiting.add(job, first=True)
            return
        error = read_error(job.spec.run_dir)
        if error is not None and error.get("kind") == "OutOfMemory":
            self._finish(Outcome(job, "failed", seconds, error))
        else:
            hint = (
                "raise protocol.accumulate (same effective batch), lower batch_size or crop, or run fewer cells at once"
            )
            self._fail(job, seconds, failure("OutOfMemory", "out of memory: the system ended its worker", hint))

    def _fail(self, job: Job, seconds: float, error: dict[str, Any]) -> None:
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
