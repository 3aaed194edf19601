"""What a task makes of its workers' ends. Needs submitit, but no cluster."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("submitit")
from lossbench.execution import slurm_task
from lossbench.execution.spec import (
    EXIT_BUSY,
    EXIT_CANCELLED,
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_OUT_OF_MEMORY,
)
from lossbench.execution.submission import Submission, new_folder


@pytest.fixture
def handlers() -> Iterator[None]:
    """A task answers signals itself; the tests' own process does so again after it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Task:
    def __init__(self, root: Path) -> None:
        self.root, self.name, self.requeued = root, new_folder(root, "suite").name, list[str]()

    def run(self, **codes: int) -> None:
        specs = []
        for cell, code in codes.items():
            specs.append(self.root / "runs" / cell / "spec.json")
            specs[-1].parent.mkdir(parents=True, exist_ok=True)
            specs[-1].write_text(str(code))
        self.submission = Submission(self.root, self.name, "5_0", tuple(codes))
        slurm_task.run_task(self.submission, specs, None, "tests.execution.slurm.exits")

    def ends(self) -> dict[str, int | None]:
        return {cell: self.submission.exit_code(cell) for cell in self.submission.cells}


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None) -> Task:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    made = Task(tmp_path)

    def requeue(job: str) -> bool:
        made.requeued.append(job)
        return True

    monkeypatch.setattr(slurm_task.slurm_queue, "requeue", requeue)
    return made


def test_what_has_ended_is_noted_and_what_wants_to_go_on_goes_back_into_the_queue(task: Task) -> None:
    task.run(done=EXIT_DONE, failed=EXIT_FAILED, memory=EXIT_OUT_OF_MEMORY, on=EXIT_CHECKPOINTED, busy=EXIT_BUSY)
    known = {"done": EXIT_DONE, "failed": EXIT_FAILED, "memory": EXIT_OUT_OF_MEMORY}
    assert task.ends() == {**known, "on": None, "busy": None}
    assert task.requeued == ["5_0"]
    # The queue gives it back: what has ended is not begun again.
    task.run(done=EXIT_FAILED, failed=EXIT_DONE, memory=EXIT_DONE, on=EXIT_DONE, busy=EXIT_DONE)
    assert task.ends() == {**known, "on": EXIT_DONE, "busy": EXIT_DONE}
    assert task.requeued == ["5_0"]


def test_without_a_queue_to_go_back_to_the_scheduler_is_told(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_task.slurm_queue, "requeue", lambda job: False)
    task.run(on=EXIT_CHECKPOINTED)
    assert task.ends() == {"on": EXIT_CHECKPOINTED}


def test_what_was_asked_to_leave_while_it_waited_is_not_begun(task: Task) -> None:
    Submission(task.root, task.name, "5_0", ("asked",)).ask("asked", "leave")
    task.run(asked=EXIT_DONE, other=EXIT_DONE)
    assert task.ends() == {"asked": EXIT_CANCELLED, "other": EXIT_DONE}
    assert task.requeued == []


def test_what_cannot_be_written_ends_no_neighbour(
    task: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Submission.ended

    def ended(self: Submission, cell: str, code: int) -> None:
        if cell == "unlucky":
            raise OSError(errno.ENOSPC, "no space left on device")
        real(self, cell, code)

    def write(self: Submission) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Submission, "ended", ended)
    monkeypatch.setattr(Submission, "write", write)
    task.run(unlucky=EXIT_DONE, other=EXIT_DONE)
    assert task.ends() == {"unlucky": None, "other": EXIT_DONE}
    assert "unlucky ended with exit code 0, which cannot be noted" in capsys.readouterr().err


@pytest.mark.parametrize("asked", [True, False])
def test_a_worker_that_hears_no_signal_is_killed_after_a_while(
    task: Task, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """Asked to leave, it is cancelled; for a signal of Slurm's, it goes on from its last checkpoint."""
    deaf = "import signal, time; signal.signal(signal.SIGUSR2, signal.SIG_IGN); open('deaf', 'w'); time.sleep(60)"
    monkeypatch.chdir(task.root)
    monkeypatch.setattr(slurm_task, "_LEAVE_S", 0.5)
    real = slurm_task.subprocess.Popen
    monkeypatch.setattr(
        slurm_task.subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", deaf], **options)
    )
    slept = time.sleep

    def tick(seconds: float) -> None:
        slept(seconds)
        if not (task.root / "deaf").exists():
            return
        if asked:
            task.submission.ask("hung", "leave")
        elif not signalled:
            signalled.append(os.getpid())
            os.kill(os.getpid(), signal.SIGUSR2)

    signalled: list[int] = []
    monkeypatch.setattr(slurm_task.time, "sleep", tick)
    task.run(hung=EXIT_DONE)
    assert task.ends() == {"hung": EXIT_CANCELLED if asked else None}
    assert task.requeued == ([] if asked else ["5_0"])
