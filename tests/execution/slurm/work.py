"""A user of the cluster: cells, commands, and what they left."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

from lossbench.execution.base import Job, Outcome, Request
from lossbench.execution.scheduler import Scheduler
from lossbench.execution.slurm import SlurmExecutor
from lossbench.execution.spec import Spec
from lossbench.execution.submission import read_submission
from lossbench.records import Record
from lossbench.store import Store
from tests.execution import test_end_to_end as end_to_end
from tests.execution.slurm.cluster import Cluster
from tests.factories import make_cell

STUB = "tests.execution.slurm.stub"


class Watch:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.started_cells: list[str] = []
        self.finished_cells: list[str] = []

    def started(self, job: Job) -> None:
        self.started_cells.append(job.cell.id)

    def progressed(self, job: Job, event: dict[str, Any]) -> None: ...

    def finished(self, outcome: Outcome) -> None:
        self.finished_cells.append(outcome.job.cell.id)

    def said(self, message: str) -> None:
        self.messages.append(message)


class Running:
    """A scheduler at work in a thread."""

    def __init__(self, executor: SlurmExecutor, results: Path, jobs: list[Job]) -> None:
        self.watch = Watch()
        self.scheduler = Scheduler(executor, Store(results), self.watch, grace_s=20)
        self.outcomes: list[Outcome] = []
        self._thread = threading.Thread(target=self._run, args=(jobs,), daemon=True)
        self._thread.start()

    def _run(self, jobs: list[Job]) -> None:
        self.outcomes = self.scheduler.run(jobs)

    def statuses(self, seconds: float = 300) -> list[str]:
        """How all ended, in the order of their ends."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the scheduler does not end"
        return [outcome.status for outcome in self.outcomes]


class Work:
    """Works in `folder`, on `cluster`."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder, self.results = cluster, folder, folder / "results"

    # --- cells that only count, see stub.py ---

    def job(self, loss: str = "a", *, steps: int = 8, seed: int = 0, **request: Any) -> Job:
        cell = make_cell(loss=loss, seed=seed, protocol={"iterations": steps})
        spec = Spec(cell.to_json(), cell.id, results=self.results, data_root=self.folder, cache_root=self.folder)
        return Job(cell, spec, Request(**request))

    def executor(self, **options: Any) -> SlurmExecutor:
        return SlurmExecutor(self.results, "test", worker=STUB, **options)

    def schedule(self, *jobs: Job, **options: Any) -> Running:
        return Running(self.executor(**options), self.results, list(jobs))

    def hold(self) -> None:
        """Let no cell end, so that a test can meddle with it in its own time."""
        self.results.mkdir(exist_ok=True)
        (self.results / "hold").touch()

    def release(self) -> None:
        (self.results / "hold").unlink()

    @property
    def ends(self) -> list[str]:
        """The cells that were run to their end, once for each time."""
        file = self.results / "ends.txt"
        return file.read_text().split() if file.exists() else []

    def step(self, job: Job) -> int:
        """How far a cell is."""
        return max((event["step"] for cell, event in self.events if cell == job.cell.id), default=0)

    def begins(self, job: Job) -> list[int]:
        """The steps at which work on a cell began."""
        log = (job.spec.run_dir / "log.txt").read_text()
        return [int(line.split()[-1]) for line in log.splitlines() if line.startswith("begins at")]

    def slurm_job(self, job: Job) -> str:
        """The job that a cell was submitted in."""
        submission = read_submission(job.spec.run_dir)
        assert submission is not None
        return submission.job

    def pid(self, job: Job) -> int:
        """Of the worker that began last with a cell."""
        return int((job.spec.run_dir / "log.txt").read_text().rsplit("pid ", 1)[1].split()[0])

    # --- the command line, and real cells ---

    def suite(self, losses: str, *, steps: int = 4, extra: str = "") -> str:
        return str(end_to_end.write_suite(self.folder, losses, steps=steps, extra=extra))

    def start(self, *arguments: str) -> Popen[str]:
        return end_to_end.start(dict(os.environ), self.folder, *arguments)

    def finish(self, process: Popen[str]) -> CompletedProcess[str]:
        return end_to_end.finish(process, 300)

    def lossbench(self, *arguments: str) -> CompletedProcess[str]:
        return self.finish(self.start(*arguments))

    def records(self, results: str = "results") -> list[Record]:
        files = (self.folder / results / "records").rglob("*.json")
        return [Record.from_json(file.read_bytes()) for file in files]

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return list(end_to_end.events(self.folder))

    # --- what Slurm says ---

    @property
    def jobs(self) -> dict[str, str]:
        """States of all jobs that Slurm remembers and that were submitted from here."""
        lines = self.cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%i|%T|%Z").stdout.splitlines()
        mine = (line.split("|") for line in lines)
        return {job: state for job, state, folder in mine if folder == str(self.folder)}

    def start_now(self, job: str) -> None:
        """Do not let a job that was put back into the queue wait for Slurm's delay."""
        wait_for(lambda: self.jobs.get(job) == "PENDING")
        time.sleep(1.5)  # its node has revoked it for the running second: a start in that one ends it for good
        self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def submissions(self) -> list[Path]:
        return sorted((self.results / "slurm").glob("*"))

    def submitted(self) -> list[Path]:
        """Word of cells that are queued or running."""
        return sorted((self.results / "runs").glob("*/submission.json"))


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    return end_to_end.wait_for(condition, seconds)
