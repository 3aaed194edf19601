"""`lossbench predict`: from a trained cell to files that the official evaluator scores as the record does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lossbench import metrics
from lossbench.cells import Cell, Component
from lossbench.cli.main import run
from lossbench.execution.cellrun import CellRun
from lossbench.protocol import Protocol
from lossbench.records import Record
from lossbench.registry import Registry
from lossbench.store import Store
from tests.datasets import trees
from tests.execution.cellfactory import make_spec
from tests.execution.official import evaluate_cityscapes

PROTOCOL = {"iterations": 6, "batch_size": 4, "crop": [32, 48], "optimizer": "adamw", "lr": 0.004, "min_lr": 0.0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cell, Record]:
    """A results folder with a cell that was trained on a small Cityscapes tree and kept its weights."""
    home = tmp_path_factory.mktemp("home")
    trees.cityscapes(home / "data" / "cityscapes", {"train": 6, "val": 5, "test": 2}, size=(40, 64))
    backbone = Registry("backbone").get("fcn_timm").resolve({"weights": "none"})
    cell = Cell(Component("cityscapes"), Component("fcn_timm", backbone), Component("ce"), 0, Protocol(**PROTOCOL))
    outcome = CellRun(make_spec(cell, home, home / "cache", keep=("weights",))).run()
    assert outcome is not None
    record, per_image, names = outcome
    Store(home).write(cell, record, per_image, names)
    return home, cell, record


@pytest.fixture
def call(trained: tuple[Path, Cell, Record], monkeypatch: pytest.MonkeyPatch) -> Any:
    home = trained[0]
    monkeypatch.setenv("LOSSBENCH_CACHE", str(home / "cache"))
    monkeypatch.setenv("LOSSBENCH_DATA", str(home / "data"))
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *words: run(["predict", "--results", str(home), "--device", "cpu", *map(str, words)])


def test_official_scores_of_the_written_files_are_the_record_s(
    trained: tuple[Path, Cell, Record], call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, cell, record = trained
    assert call(cell.id[:8], "--format", "cityscapes", "--out", tmp_path / "out", "--json") == 0
    said = capsys.readouterr()
    assert "counted otherwise" not in said.err
    (row,) = json.loads(said.out)
    assert (row["run"], row["split"], row["images"], row["step"]) == (cell.id, "val", 5, None)
    theirs = evaluate_cityscapes(home / "data" / "cityscapes", tmp_path / "out", tmp_path / "export")
    expected = [theirs["classScores"][name] for name in record.class_names]
    np.testing.assert_allclose(metrics.iou(record.confusion), expected, rtol=0, atol=1e-9, equal_nan=True)
    assert row["miou"] == pytest.approx(100 * theirs["averageScoreClasses"], abs=1e-7)
    assert record.confusion.sum() > 0
    assert np.count_nonzero(record.confusion.sum(axis=0)) > 1, "more than one class is predicted"


def test_test_is_predicted_without_being_scored(
    trained: tuple[Path, Cell, Record], call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, cell, _ = trained
    file = home / "runs" / cell.id / "model.safetensors"
    assert call(file, "--format", "cityscapes", "--split", "test", "--out", tmp_path / "out") == 0
    assert "test, 2 images, no labels to score by" in capsys.readouterr().out
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [
        "aachen_000000_000019_pred_labelIds.png",
        "bad-honnef_000001_000019_pred_labelIds.png",
    ]
    labels = np.asarray(Image.open(files[0]))
    assert labels.shape == (40, 64)
    assert set(np.unique(labels)) <= {id_ for id_, _ in _classes()}


def _classes() -> Any:
    from lossbench.datasets.cityscapes import CLASSES

    return CLASSES.values()


def test_train_ids_of_several_runs(
    trained: tuple[Path, Cell, Record], call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, cell, record = trained
    folder = home / "runs" / cell.id
    assert call(cell.id, folder, "--out", tmp_path / "out") == 2, "the same run twice"
    assert "given twice" in capsys.readouterr().err
    assert call(cell.id, "--out", tmp_path / "out") == 0
    dataset = Registry("dataset").get("cityscapes").build({}, root=home / "data" / "cityscapes")
    confusion = sum(
        metrics.confusion_matrix(
            dataset.load("val", i)[1], np.asarray(Image.open(tmp_path / "out" / f"{name}.png")), 19
        )
        for i, name in enumerate(dataset.names("val"))
    )
    assert (confusion == record.confusion).all()
    assert call(cell.id, "--out", tmp_path / "out") == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "error", "hint"),
    [
        (["--format", "citscapes"], 2, "unknown format 'citscapes'", "did you mean 'cityscapes'?"),
        (["--split", "vall"], 3, "cityscapes has no split 'vall'", "did you mean 'val'?"),
        (["--data-root", "nowhere"], 3, "no folder", ""),
        (["--data-root", "~no-such-user/x"], 2, "~no-such-user/x: no home folder for ~no-such-user", "./~"),
        (["--out", "~no-such-user/x"], 2, "~no-such-user/x: no home folder for ~no-such-user", "./~"),
        (["--out", "/"], 2, "/ is a root", "a folder below it"),
        (["--device", "cuda:x"], 2, "'cuda:x' is no device", "use cpu, mps or cuda:0"),
    ],
)
def test_mistakes(
    trained: tuple[Path, Cell, Record], call: Any, tmp_path: Path, words: list[str], code: int, error: str, hint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert call(trained[1].id, "--out", tmp_path / "out", *words) == code
    err = capsys.readouterr().err
    assert f"error: {error}" in err or error in err
    assert hint in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_weights_says_how_to_keep_them(
    trained: tuple[Path, Cell, Record], call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, cell, _ = trained
    kept = home / "runs" / cell.id / "model.safetensors"
    kept.rename(tmp_path / "model.safetensors")
    try:
        assert call(cell.id, "--out", tmp_path / "out") == 2
    finally:
        (tmp_path / "model.safetensors").rename(kept)
    err = capsys.readouterr().err
    assert f"the weights of run {cell.id} were not kept" in err
    assert "--keep weights" in err.replace("\n", " ")


def test_a_checkpoint_is_taken_only_when_it_is_named(
    trained: tuple[Path, Cell, Record], call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was stopped before its last step, in results of its own."""
    home, cell, _ = trained
    spec = make_spec(cell, tmp_path / "other", home / "cache")
    spec = replace(spec, data_root=home / "data")
    calls = iter([False] * 4)
    assert CellRun(spec, should_stop=lambda: next(calls, True)).run() is None
    file = spec.run_dir / "checkpoint.pt"
    for name in (cell.id[:8], spec.run_dir):
        assert call("--results", tmp_path / "other", name, "--out", tmp_path / "out") == 2
        said = capsys.readouterr()
        assert f"error: run {cell.id} is unfinished, step 4 of 6\n" in said.err
        assert "finish it with `lossbench run`" in said.err
        assert said.out == ""
        assert not (tmp_path / "out").exists()
    assert call(file, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert f"{cell.name} at step 4: val, 5 images, mIoU" in said.out
    assert f"warning: {file} is a checkpoint, step 4 of 6: not the result of run {cell.id}\n" in said.err
    assert "counted otherwise" not in said.err, "of course"
    assert call(file, "--out", tmp_path / "again", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["step"] == 4
    file.write_bytes(b"x")
    assert call(file, "--out", tmp_path / "third") == 3
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
