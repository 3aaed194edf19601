"""`lossbench data` and a short training on each dataset of the catalogue, on a small tree in its layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossbench.cells import Cell, Component
from lossbench.cli.main import run
from lossbench.execution.cellrun import CellRun
from lossbench.protocol import Protocol
from lossbench.registry import Registry
from tests.datasets.catalogue_trees import TREES
from tests.execution.cellfactory import PROTOCOL, make_spec

IMAGES = {
    "ade20k": {"train": 3, "val": 2},
    "loveda": {"train": 4, "val": 4},
    "bdd100k": {"train": 2, "val": 1},
    "kvasir": {"train": 22, "val": 3},
    "oxford_pet": {"train": 8, "val": 2, "test": 3},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LOSSBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", TREES)
def test_check_and_prepare(name: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", name]) == 3
    assert f"{name}: no folder" in capsys.readouterr().err
    TREES[name](home / "data" / name)
    assert run(["data", "check", name, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["images"] == IMAGES[name]
    assert report["problems"] == []
    published = Registry("dataset").get(name).load().expected_counts or {"train": (2522,), "val": (1669,)}
    for split, (count, *_) in published.items():
        assert any(f"{split}: {IMAGES[name][split]} images, the published split has {count}" in line
                   for line in report["warnings"])  # fmt: skip
    assert run(["data", "prepare", name, "--yes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["split"]: row["images"] for row in rows} == IMAGES[name]


@pytest.mark.parametrize(
    ("name", "params", "classes", "eval_split"),
    [("oxford_pet", {"border": "class"}, 3, "test"), ("kvasir", {}, 2, "val"), ("ade20k", {}, 150, "val")],
)
def test_two_steps_of_training(name: str, params: dict[str, Any], classes: int, eval_split: str, home: Path) -> None:
    plugin = Registry("dataset").get(name)
    dataset = plugin.build(params, root=TREES[name](home / "data" / name))
    backbone = Registry("backbone").get("fcn_timm").resolve({"weights": "none"})
    train_split = "trainval" if name == "oxford_pet" else "train"
    protocol = Protocol(**{**PROTOCOL, "iterations": 2, "train_split": train_split, "eval_split": eval_split})
    dataset_part = Component(name, plugin.resolve(params), tuple(params))
    cell = Cell(dataset_part, Component("fcn_timm", backbone), Component("ce"), 0, protocol)
    outcome = CellRun(make_spec(cell, home, home / "cache")).run()
    assert outcome is not None
    record, _, names = outcome
    assert list(names) == list(dataset.names(eval_split))
    assert record.notes == list(dataset.notes)
    # Each labelled pixel of the split is scored once, at the image's own size.
    truth = np.zeros(256, np.int64)
    for index in range(len(names)):
        truth += np.bincount(dataset.load(eval_split, index)[1].ravel(), minlength=256)
    assert np.asarray(record.confusion).shape == (classes, classes)
    assert (np.asarray(record.confusion).sum(1) == truth[:classes]).all()
