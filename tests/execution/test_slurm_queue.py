"""How Slurm is asked and told, against commands that say what Slurm's would, and write down how they were called."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.execution.slurm_queue import GONE, alive, pass_on, requeue, states
from lossbench.execution.submission import Submission


class Commands:
    def __init__(self, folder: Path) -> None:
        self.folder, self._log = folder, folder / "log"

    def make(self, name: str, body: str) -> None:
        file = self.folder / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {self._log}\n{body}\n')
        file.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    made = Commands(folder)
    made.make("squeue", "printf '7_0|RUNNING\\n7_1|PENDING\\n8|COMPLETED\\n'")
    made.make("scancel", "")
    made.make("scontrol", "")
    return made


def test_one_call_for_all_jobs(commands: Commands) -> None:
    told = states(["7_0", "7_1", "7_2", "8"])
    assert told == {"7_0": "RUNNING", "7_1": "PENDING", "7_2": GONE, "8": "COMPLETED"}
    (call,) = commands.calls
    assert call.endswith("--jobs=7,8")
    assert {job for job, state in told.items() if alive(state)} == {"7_0", "7_1"}


def test_no_jobs_no_call(commands: Commands) -> None:
    assert states([]) == {}
    assert commands.calls == []


def test_a_job_slurm_has_forgotten_is_gone_and_a_controller_that_is_down_says_nothing(commands: Commands) -> None:
    commands.make("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert states(["3"]) == {"3": GONE}
    commands.make("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert states(["3"]) is None


def test_where_there_is_no_slurm_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert states(["3"]) is None


def test_what_waits_leaves_the_queue_and_what_runs_is_signalled(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "slurm" / "s").mkdir(parents=True)
    names = {"1": "leave", "2": "leave", "3": "kill", "4": None}
    made = [Submission(tmp_path, "s", job, (f"c{job}", f"d{job}")) for job in names]
    for submission in made:
        for cell in submission.cells:
            if names[submission.job] is not None:
                submission.ask(cell, names[submission.job])  # type: ignore[arg-type]
    made[3].ask("c4", "leave")  # its neighbour goes on
    pass_on(made, {"1": "PENDING", "2": "RUNNING", "3": "RUNNING", "4": "RUNNING"})
    assert commands.calls == ["scancel --quiet 1 3", "scancel --quiet --signal=USR2 2"]


def test_only_a_running_job_is_put_back_by_its_own_task(commands: Commands) -> None:
    assert requeue("7_0")
    assert commands.calls[-1] == "scontrol requeue 7_0"
    assert requeue("8")  # cancelled, or put back by Slurm: not for the task to say
    assert commands.calls[-1].startswith("squeue")
    commands.make("scontrol", "exit 1")
    assert not requeue("7_0")
