"""Options that an executor would not heed are refused; those it takes reach it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lossbench.cli.run import run
from lossbench.errors import ConfigError, SetupError
from lossbench.execution.executors import make_executor
from lossbench.execution.suite_run import RunOptions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"executor": "slurm", "threads": 2}, "--threads needs --executor local"),
        ({"executor": "ray", "threads": 1}, "--threads needs --executor local"),
        ({"executor": "ray", "devices": "cpu"}, "--devices needs --executor local"),
        ({"executor": "slurm", "devices": "0,1"}, "--devices needs --executor local"),
        ({"executor": "slurm", "slots_per_device": 2}, "--slots-per-device needs --executor local or ray"),
        ({"executor": "slurm", "address": "auto"}, "--address needs --executor ray"),
        ({"address": "auto"}, "--address needs --executor ray"),
        ({"executor": "ray", "detach": True}, "--detach needs --executor slurm"),
    ],
)
def test_options_an_executor_would_not_heed_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run("no such suite", **options)
    assert caught.value.message == said
    assert caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"executor": "ray", "address": "auto", "jobs": 2, "slots_per_device": 2},
        {"executor": "slurm", "jobs": 2, "detach": True},
        {"threads": 1, "devices": "cpu", "slots_per_device": 2},
    ],
)
def test_those_it_heeds_are_not(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no such suite"):
        run("no such suite", **options)


def test_ray_gets_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = ModuleType("lossbench.execution.ray")
    module.RayExecutor = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    options = RunOptions(tmp_path, tmp_path, tmp_path, executor="ray", address="here:1", jobs=3, slots_per_device=2)
    assert make_executor(options, [], {}) == {"address": "here:1", "jobs": 3, "slots_per_device": 2}


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "lossbench.execution.ray", raising=False)
    with pytest.raises(SetupError) as caught:
        make_executor(RunOptions(tmp_path, tmp_path, tmp_path, executor="ray"), [], {})
    assert "lossbench[ray]" in str(caught.value.hint)
