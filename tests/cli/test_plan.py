"""`lossbench plan`: cells by state over a real results directory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lossbench
from lossbench.cells import Cell
from lossbench.cli.main import run
from lossbench.cli.plan import print_plan
from lossbench.gpuhours import GpuHours
from lossbench.plan import STATES, Estimate, PlannedCell
from lossbench.provenance import collect
from lossbench.records import Record
from lossbench.store import Store
from lossbench.suite import Suite, load_suite

PLUGIN = """
from lossbench.registry import register_backbone, register_dataset, register_loss

@register_dataset("tiles")
class Tiles:
    def __init__(self): ...

@register_backbone("net")
class Net:
    def __init__(self, num_classes: int): ...

@register_loss("own")
class Own:
    def __init__(self, *, gamma: float = 2.0): ...
"""
SUITE = """\
datasets: [tiles]
backbones: [net]
losses: [{name: own, gamma: [1, 2]}]
seeds: 3
protocol: {iterations: 10}
plugins: [plugin.py]
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "mine.yaml").write_text(SUITE)
    return load_suite("mine.yaml")


def finish(suite: Suite, cell: Cell, train_s: float, *, gpu: str | None = None) -> None:
    """Put a record of the cell into ./results."""
    provenance = collect(
        cell, suite.registries, data_fingerprint={}, threads=1, device="cpu", command="test", suite=suite.name
    )
    if gpu:
        provenance["hardware"]["gpu"] = {"name": gpu}
    record = Record(
        cell=cell.identity,
        labels={"dataset": "tiles", "backbone": "net", "loss": cell.loss.label},
        status="ok",
        class_names=["a", "b"],
        confusion=np.array([[3, 1], [0, 4]], dtype=np.int64),
        train_pixels=[10, 20],
        costs={"train_s": train_s, "eval_s": 1.0},
        provenance=provenance,
    )
    # TP, FP, FN of the one image
    Store(Path("results")).write(cell, record, [[[3, 0, 1], [4, 1, 0]]], ["image"])


def plan_of(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert run(["plan", "mine.yaml", "--json"]) == 0
    loaded: dict[str, object] = json.loads(capsys.readouterr().out)
    return loaded


def test_nothing_has_run(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "mine.yaml"]) == 0
    out = capsys.readouterr().out
    assert "suite mine: 6 cells" in out
    assert "6 missing; time unknown: nothing comparable has run yet" in out
    assert not Path("results").exists()  # looking leaves no trace


def test_states_and_times(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    cells = suite.cells()
    finish(suite, cells[0], train_s=59.0)
    failed, interrupted = cells[1], cells[2]
    runs = Path("results/runs")
    (runs / failed.id).mkdir(parents=True)
    (runs / failed.id / "error.json").write_text('{"kind": "ValueError", "message": "no luck", "hint": null}')
    (runs / interrupted.id).mkdir()
    (runs / interrupted.id / "checkpoint.pt").touch()
    planned = plan_of(capsys)
    assert planned["states"] == {"done": 1, "interrupted": 1, "failed": 1, "missing": 3}
    assert planned["seconds"] == pytest.approx(5 * 60.0)
    assert planned["unknown"] == 0
    assert run(["plan", "mine.yaml"]) == 0
    out = capsys.readouterr().out
    assert "1 done, 1 interrupted, 1 failed, 3 missing; about 5 min left" in out
    assert f"({failed.id}): ValueError: no luck" in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("own(")}
    assert rows["own(gamma=1)"] == ["1", "1", "1", "2", "min"]
    assert rows["own(gamma=2)"] == ["1", "2", "3", "min"]


def test_other_code_makes_a_record_stale(
    suite: Suite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for cell in suite.cells():
        finish(suite, cell, train_s=1.0)
    assert plan_of(capsys)["states"] == {"done": 6}
    monkeypatch.setattr(lossbench, "PROTOCOL", lossbench.PROTOCOL + 1)
    planned = plan_of(capsys)
    assert planned["states"] == {"stale": 6}
    assert planned["seconds"] is None  # a stale record is not made anew


def test_a_truncated_record_is_told_and_run_again(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    cell = suite.cells()[0]
    finish(suite, cell, train_s=1.0)
    path = Store(Path("results")).record_path(cell)
    path.write_text(path.read_text()[:100])
    assert run(["plan", "mine.yaml", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["states"] == {"missing": 6}
    assert captured.err.startswith("warning: skipped ")


def test_a_wrong_suite_exits_with_2(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(SUITE.replace("gamma", "gama"))
    assert run(["plan", "mine.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: mine.yaml:3: loss 'own' has no parameter 'gama'\nhint: did you mean 'gamma'?\n"
    assert captured.out == ""


def test_the_table_fits_80_columns_with_every_state(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    cell = suite.cells()[0]
    planned = [
        PlannedCell(replace(cell, seed=seed), state, estimate=Estimate(4000.0, "scaled"))
        for seed, state in enumerate(STATES)
    ]
    print_plan("all", planned, GpuHours(123.4, 4567.0))
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert next(line for line in lines if line.startswith("loss")).split() == ["loss", *STATES, "time", "left"]
    assert "about 123.4 GPU-hours and at most 4,567 GPU-hours by the suite's time limits" in lines


def test_gpu_hours_come_from_records_and_else_from_time_limits(
    suite: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan_of(capsys)["gpu_hours"] == {"expected": None, "limit": None}  # asks for no GPU
    text = SUITE + "resources: {gpus: 0.5, minutes: 120}\n"
    Path("mine.yaml").write_text(text)
    assert plan_of(capsys)["gpu_hours"] == {"expected": None, "limit": 6 * 0.5 * 2}
    finish(suite, suite.cells()[0], train_s=3.0)
    assert plan_of(capsys)["gpu_hours"] == {"expected": None, "limit": 5 * 0.5 * 2}, "a CPU's time says nothing"
    finish(suite, suite.cells()[1], train_s=7199.0, gpu="A GPU")
    hours = plan_of(capsys)["gpu_hours"]
    assert hours == {"expected": pytest.approx(4 * 0.5 * 2), "limit": None}
    Path("mine.yaml").write_text(text.replace(", minutes: 120", ""))
    assert run(["plan", "mine.yaml"]) == 0
    assert "about 4.0 GPU-hours\n" in capsys.readouterr().out
