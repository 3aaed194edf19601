"""Schedulers and fork servers that die at a chosen moment, over stub cells; and clocks that jump."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import pytest

from benchmarks.stubs import Silent, StubRun, write_suite
from lossbench.execution import guard
from lossbench.execution.base import Job, Request
from lossbench.execution.capacity import Capacity
from lossbench.execution.events import EventReader, EventWriter
from lossbench.execution.local import LocalExecutor
from lossbench.execution.scheduler import Scheduler
from lossbench.execution.spec import Spec
from lossbench.execution.worker import forked_main
from lossbench.store import Store
from lossbench.suite import load_suite
from tests.execution.faults.journal import JOURNAL, note

ROOT = Path(__file__).resolve().parents[3]
MODULE = "tests.execution.faults.test_servers"


class SlowRun(StubRun):
    """Notes each beginning, and takes long enough to be hit."""

    def __init__(self, spec: Spec, should_stop: Callable[[], bool]) -> None:
        super().__init__(spec, should_stop, step_s=0.3)
        note(spec.results, "begin", spec.cell_id)


class DeafRun(SlowRun):
    """Hangs in C with the interpreter's lock held: no signal handler and no thread of it runs any more."""

    def run(self) -> None:
        ctypes.PyDLL(None).sleep(600)


slow_main = partial(forked_main, make=SlowRun)


def deaf_main(spec: str) -> None:
    guard.ORPHAN_GRACE_S = 1.0
    forked_main(spec, DeafRun)


def make_jobs(folder: Path, cells: int) -> list[Job]:
    results = folder / "results"
    chosen = load_suite(write_suite(folder / "suite.yaml", 10)).cells()[:cells]
    return [Job(cell, Spec(cell.to_json(), cell.id, results, results, results)) for cell in chosen]


def journal(folder: Path) -> Counter[str]:
    return Counter(line.split()[1] for line in (folder / JOURNAL).read_text().splitlines())


@pytest.mark.slow
def test_cells_outlive_their_fork_server_and_a_new_one_serves_the_rest(tmp_path: Path) -> None:
    class KillsTheServer(Silent):
        killed = 0

        def progressed(self, job: Job, event: dict[str, object]) -> None:
            if not self.killed:
                self.killed = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
                os.kill(self.killed, signal.SIGKILL)

    watch, jobs = KillsTheServer(), make_jobs(tmp_path, 4)
    executor = LocalExecutor(Capacity(["cpu"], 2, cores=2), (MODULE,), slow_main, warm=False)
    outcomes = Scheduler(executor, Store(tmp_path / "results"), watch).run(jobs)
    assert watch.killed
    assert watch.killed != forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    assert [outcome.status for outcome in outcomes] == ["done"] * 4
    assert set(journal(tmp_path).values()) == {1}  # nobody was started twice


@pytest.mark.slow
@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGINT, signal.SIGINT]], ids=["kill -9", "two Ctrl-C"])
def test_a_worker_that_hangs_does_not_outlive_its_scheduler(tmp_path: Path, signals: list[signal.Signals]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {MODULE} import run_deaf; run_deaf({str(tmp_path)!r})"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        wait_for((tmp_path / JOURNAL).exists)
        worker = int((tmp_path / JOURNAL).read_text().split()[2])
        for number in signals:
            process.send_signal(number)
            time.sleep(0.5)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split()[2])


def run_deaf(folder: str) -> None:
    executor = LocalExecutor(Capacity(["cpu"], 1, cores=1), (MODULE,), deaf_main, warm=False)
    Scheduler(executor, Store(Path(folder, "results")), Silent()).run(make_jobs(Path(folder), 1))


def wait_for(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_jumps_ends_no_cell_and_hides_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """The wall clock moves by three years at every look; limits and intervals go by the monotonic one."""
    now, real = [time.time()], time.time

    def jumping() -> float:
        now[0] += jump
        return now[0]

    monkeypatch.setattr(time, "time", jumping)
    job = make_jobs(tmp_path, 1)[0]
    job.request = Request(minutes=5)
    watch = Silent()
    executor = LocalExecutor(Capacity(["cpu"], 1, cores=1), (MODULE,), slow_main, warm=False)
    outcomes = Scheduler(executor, Store(tmp_path / "results"), watch).run([job])
    assert [outcome.status for outcome in outcomes] == ["done"]
    assert 1 < outcomes[0].seconds < 300

    writer = EventWriter(tmp_path / "events.jsonl", interval=60)
    for step in range(5):
        writer.send("step", throttle=True, step=step)
    writer.send("done")
    events = list(EventReader(tmp_path / "events.jsonl").new())
    assert [event["event"] for event in events] == ["step", "done"]
    assert abs(events[0]["t"] - real()) > 1e7
