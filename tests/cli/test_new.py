"""`lossbench new`: what it writes passes every check, and trains."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lossbench.cli.main import run
from lossbench.registry import KINDS
from lossbench.templates import class_name, text

ROOT = Path(__file__).parents[2]
#: Short, usual, and as long as is allowed.
NAMES = ("q", "own_thing", "a_" * 15)


def written(folder: Path, kind: str, name: str) -> Path:
    assert run(["new", kind, name, "--to", str(folder)]) == 0
    return folder / f"{name}.py"


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_passes_its_checks(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, kind, "own_thing")
    captured = capsys.readouterr()
    assert captured.out == f"{file}\n"
    assert f"lossbench check {file}" in captured.err
    assert "plugins: [./own_thing.py]" in captured.err
    assert run(["check", str(file), "--no-timing", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["name"]) == (kind, "own_thing")
    # A dataset has no other rules than those that apply; a loss without passes and diagnostics has two.
    skipped = [rule["rule"] for rule in report["rules"] if rule["skipped_reason"]]
    assert skipped == (["resample", "diagnostics"] if kind == "loss" else [])


@pytest.mark.parametrize("line_length", [88, 120])
def test_it_is_as_ruff_wants_it(line_length: int, tmp_path: Path) -> None:
    """In a project with ruff's own defaults, and in one with long lines, as this."""
    for kind in KINDS:
        for name in NAMES:
            file = tmp_path / f"{name}_{kind}.py"
            file.write_text(text(kind, name))
    for command in (["check", "--select", "E,F,W,I,UP,B"], ["format", "--check"]):
        given = [*command, "--no-cache", "--isolated", f"--line-length={line_length}", str(tmp_path)]
        done = subprocess.run([sys.executable, "-m", "ruff", *given], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_it_is_as_strict_mypy_wants_it(tmp_path: Path) -> None:
    files = [str(written(tmp_path, kind, f"own_{kind}")) for kind in KINDS]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *files],  # with the settings and the cache of this repository
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_three_of_them_train_in_a_suite(tmp_path: Path) -> None:
    for kind in KINDS:
        written(tmp_path, kind, f"own_{kind}")
    (tmp_path / "suite.yaml").write_text(
        "plugins: [./own_loss.py, ./own_backbone.py, ./own_dataset.py]\n"
        "datasets: [own_dataset]\n"
        "backbones: [{name: own_backbone, width: 16}]\n"
        "losses: [ce, {name: own_loss, epsilon: 2.0}]\n"
        "seeds: 1\n"
        "protocol: {iterations: 2, batch_size: 4, crop: [32, 48], optimizer: adamw, lr: 0.002, min_lr: 0.0}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "lossbench", "run", "suite.yaml", "--threads", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LOSSBENCH_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(file.read_text()) for file in (tmp_path / "results" / "records").rglob("*.json")]
    assert len(records) == 2
    assert {record["status"] for record in records} == {"ok"}


def test_only_its_names_are_replaced() -> None:
    assert text("loss", "my_loss") == (ROOT / "lossbench" / "templates" / "my_loss.py").read_text()
    for kind in KINDS:
        tree = ast.parse(text(kind, "focal_2"))
        assert [node.name for node in tree.body if isinstance(node, ast.ClassDef)] == ["Focal2"]
        assert "my_" not in text(kind, "focal_2")
    assert class_name("_a__bC") == "ABC"
    assert class_name("_") == "Own"


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "loss", "own_thing")
    file.write_text("mine")
    assert run(["new", "loss", "own_thing", "--to", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["los", "x"], 2, "did you mean 'loss'?"),
        (["loss", "my-loss"], 2, "did you mean 'my_loss'?"),
        (["loss", "2loss"], 2, "did you mean 'my_2loss'?"),
        (["loss", "class"], 2, "did you mean 'my_class'?"),
        (["loss", "größe"], 2, "is no name"),
        (["loss", "../x"], 2, "did you mean 'x'?"),
        (["loss", "focal"], 2, "there is a loss 'focal' already"),
        (["loss", "random"], 2, "would hide the Python module 'random'"),
        (["backbone", "torch"], 2, "would hide the Python module 'torch'"),
        (["loss", "a" * 31], 2, "30 are allowed"),
        (["loss", "x", "--to", "nowhere"], 3, "no folder nowhere"),
    ],
)
def test_mistakes(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["new", *arguments]) == code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
