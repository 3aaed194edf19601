"""A cell's request in Slurm's terms. Needs submitit, but no cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.errors import ConfigError, SetupError
from lossbench.execution.base import Request, freeze, thaw
from lossbench.execution.slurm import POLL_VARIABLE, SlurmExecutor
from lossbench.execution.slurm_request import packed, parameters
from lossbench.suite_schema import Resources, SlurmKeys

pytest.importorskip("submitit")
from submitit.slurm import slurm as submitit_slurm


def sbatch(request: Request, tasks: int = 4, jobs: int | None = None) -> list[str]:
    """The lines of the file that submitit makes of a request."""
    made = parameters(request, "lossbench-test", tasks, jobs)
    text: str = submitit_slurm._make_sbatch_string("COMMAND", folder="/tmp", map_count=tasks, **made)
    return text.strip().splitlines()


def test_what_a_request_becomes() -> None:
    lines = sbatch(Request(gpus=0.25, cpus=2, memory_gb=3.5, minutes=59.5))
    for flag in ("cpus-per-task=8", "gpus-per-node=1", "mem=14000M", "time=63", "requeue", "array=0-3%4"):
        assert f"#SBATCH --{flag}" in lines
    assert "--cpus-per-task=8" in lines[-1]


def test_nothing_is_said_of_what_was_not_asked_for() -> None:
    lines = sbatch(Request())
    assert not [line for line in lines if any(word in line for word in ("--time", "--mem", "gpus", "wckey", "account"))]


def test_the_suites_own_keys_win() -> None:
    keys = SlurmKeys(
        slurm_time=600,
        slurm_gres="gpu:a100:1",
        slurm_setup=["module load cuda"],
        slurm_srun_args=["--mpi=none"],
        slurm_additional_parameters={"reservation": "friday", "requeue": False},
    )
    slurm = tuple((key, freeze(value)) for key, value in keys.slurm().items())
    request = Request(gpus=1, minutes=5, slurm=slurm)
    assert hash(request) == hash(Request(gpus=1, minutes=5, slurm=slurm))
    lines = sbatch(request, jobs=2)
    for line in ("time=600", "gres=gpu:a100:1", "reservation=friday", "array=0-3%2"):
        assert f"#SBATCH --{line}" in lines
    assert "module load cuda" in lines
    assert "--mpi=none" in lines[-1]
    assert not [line for line in lines if "gpus-per-node" in line or "requeue" in line]


def test_every_key_of_a_suite_is_one_that_submitit_takes() -> None:
    known = submitit_slurm._get_default_parameters()
    assert {key.removeprefix("slurm_") for key in SlurmKeys.model_fields} <= known.keys()
    assert set(SlurmKeys.model_fields) < set(Resources.model_fields)


@pytest.mark.parametrize(
    ("gpus", "cells"), [(None, 1), (0, 1), (0.5, 2), (0.3, 3), (1 / 3, 3), (0.7, 1), (1, 1), (4, 1)]
)
def test_cells_of_a_task(gpus: float | None, cells: int) -> None:
    assert packed(Request(gpus=gpus)) == cells


def test_values_come_back_as_they_were() -> None:
    for value in ("a", 3, True, ["a", "b"], {"b": 1, "a": "x"}):
        assert thaw(freeze(value)) == value


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="no Slurm here"):
        SlurmExecutor(tmp_path)
    for name in ("sbatch", "srun"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv(POLL_VARIABLE, "soon")
    with pytest.raises(ConfigError, match="'soon', which is no number"):
        SlurmExecutor(tmp_path)
    monkeypatch.delenv(POLL_VARIABLE)
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(SetupError, match="submitit") as caught:
        SlurmExecutor(tmp_path)
    assert caught.value.hint == 'pip install "lossbench[slurm]"'


def test_places_are_what_the_worker_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    executor = SlurmExecutor(tmp_path)
    assert executor.reserve(Request(gpus=2, cpus=8)).devices == ("auto", "auto")
    assert executor.reserve(Request(gpus=0.5)).devices == ("auto",)
    assert executor.reserve(Request(gpus=0)).devices == ("cpu",)
    assert executor.reserve(Request(cpus=8)).threads == 8
