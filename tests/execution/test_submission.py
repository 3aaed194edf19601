"""What run folders say of cells that were handed to a cluster, and what a folder of others cannot make of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lossbench.execution.claim import Claim
from lossbench.execution.submission import FILE, Submission, new_folder, read_submission, submissions
from lossbench.plan import RunState, read_run_state


@pytest.fixture
def packed(tmp_path: Path) -> Submission:
    """Two cells in one task, just submitted."""
    folder = new_folder(tmp_path, "my suite")
    made = Submission(tmp_path, folder.name, "12_3", ("aa", "bb"))
    for cell in made.cells:
        (tmp_path / "runs" / cell).mkdir(parents=True)
    made.write()
    return made


def test_it_is_read_as_it_was_written(packed: Submission) -> None:
    assert submissions(packed.results, ("aa", "bb", "cc")) == {"aa": packed, "bb": packed}
    found = read_submission(packed.results / "runs" / "aa")
    assert found is not None
    assert (found.cells, found.folder) == (("aa", "bb"), packed.folder)
    assert found.submitted > 0


def test_each_submission_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert len({new_folder(tmp_path, "../x y") for _ in range(3)}) == 3
    assert all(folder.parent == tmp_path / "slurm" for folder in (tmp_path / "slurm").iterdir())


def test_the_end_of_a_cell_is_noted_and_its_neighbour_is_still_under_way(packed: Submission) -> None:
    packed.ended("aa", 75)
    assert packed.exit_code("aa") == 75
    assert list(submissions(packed.results, packed.cells)) == ["bb"]
    packed.write()  # late: who submitted it was slower than its worker
    assert list(submissions(packed.results, packed.cells)) == ["bb"]


def test_a_newer_submission_is_not_forgotten_with_an_older_one(packed: Submission) -> None:
    newer = Submission(packed.results, new_folder(packed.results, "my suite").name, "13", ("aa",))
    newer.write()
    packed.ended("aa", 0)
    assert read_submission(packed.results / "runs" / "aa") == newer
    assert newer.exit_code("aa") is None


def test_a_task_is_told_only_what_all_its_cells_were_asked(packed: Submission) -> None:
    packed.ask("aa", "kill")
    assert packed.all_asked() is None
    packed.ask("bb", "leave")
    assert packed.all_asked() == "leave"
    packed.ended("bb", 0)
    assert packed.all_asked() == "kill"


def test_several_may_ask_at_the_same_time(packed: Submission) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: packed.ask("aa", "kill" if number % 2 else "leave"), range(200)))
    assert packed.asked("aa") in ("kill", "leave")
    assert [file.name for file in packed.folder.iterdir()] == ["aa.asked"]


@pytest.mark.parametrize(
    "change",
    [{"folder": "../../etc"}, {"folder": "/etc"}, {"job": "1; rm"}, {"job": "--user=root"}, {"cells": ["../x", "aa"]}],
)
def test_a_folder_of_somebody_elses_leads_nowhere(packed: Submission, change: dict[str, object]) -> None:
    file = packed.results / "runs" / "aa" / FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert read_submission(file.parent) is None


def test_what_a_run_folder_says(packed: Submission) -> None:
    folder = packed.results / "runs" / "aa"
    assert read_run_state(folder) == RunState("queued")
    assert read_run_state(folder, {"12_3": "PENDING"}) == RunState("queued")
    assert read_run_state(folder, {"12_3": "RUNNING"}) == RunState("running")
    for gone in ({"12_3": "GONE"}, {"12_3": "FAILED"}, {}):
        assert read_run_state(folder, gone) is None
    with Claim(folder):
        assert read_run_state(folder, {"12_3": "PENDING"}) == RunState("running")
    (folder / "checkpoint.pt").touch()
    packed.ask("aa", "leave")
    assert read_run_state(folder, {"12_3": "RUNNING"}) == RunState("interrupted")
