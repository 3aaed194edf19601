"""A results folder with everything a report may meet, and a report of it; made once a process."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from lossbench.cli import main as entry
from lossbench.store import Store
from lossbench.suite import load_suite
from tests.factories import make_record, put, quickstart

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}../../etc\u202etxt"
LONG = f"long({', '.join(f'parameter_{i}={i}' for i in range(20))})"
#: Three losses as is and tuned: ce chooses another learning rate, focal another gamma as well, dice keeps its own.
TUNED = """
datasets: [streets]
backbones: [{name: fcn_timm, weights: none}]
losses: [ce, focal, dice]
seeds: 2
tune: {trials: 3, search: {lr: {low: 1e-4, high: 1e-2}}, losses: {focal: {gamma: [0.5, 2.0, 5.0]}}}
protocol: {iterations: 10, lr: 0.001, min_lr: 0.0}
"""


def fill(store: Store) -> None:
    """Six losses on three seeds; the imbalance dial; a hostile label; a diverged, a stale-looking and a lone run; a
    dataset without the reference; many classes."""
    quickstart(store)
    for imbalance in (10.0, 100.0):
        for loss in ("ce", "focal"):
            for seed in (0, 1):
                put(
                    store, dataset_params={"imbalance": imbalance}, loss=loss, seed=seed, quality=0.7 + imbalance / 1000
                )
    put(store, loss="mine", label=HOSTILE, seed=0, quality=0.81)
    put(store, loss="long", label=LONG, seed=0, quality=0.79)
    put(store, loss="dice", seed=0, status="diverged", quality=0.2, notes=("loss nan at step 7",))
    put(store, dataset="apart", loss="focal", seed=0)
    many = tuple(f"class number {i}" for i in range(59))
    for loss in ("ce", "focal"):
        for seed in (0, 1):
            shares = tuple(max(40_000 // (i + 1), 20) for i in range(59))
            put(store, dataset="context", loss=loss, seed=seed, class_names=many, shares=shares, quality=0.75)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "results"
    fill(Store(folder))
    return folder


def fill_tuned(folder: Path, *, trials: int = 3) -> Path:
    """Records of a suite with searches: so many trials of each and, if these are all, the tuned runs. Returns the
    suite's file."""
    suite = folder / "tuned.yaml"
    suite.write_text(TUNED)
    store, loaded = Store(folder / "results"), load_suite(suite)
    scores: dict[str, float] = {}
    for _ in range(2):  # the tuned cells are known when the trials are there
        for cell in loaded.known(lambda cell: scores.get(cell.id)).cells:
            late = any(cell.note.startswith(f"trial {number}/") for number in range(trials + 1, 4))
            if late or cell.id in scores:
                continue
            best = 0.001 if cell.loss.name == "dice" else 0.01
            quality = 0.8 - 0.1 * abs(math.log10(cell.protocol.lr / best)) + 0.001 * (cell.seed % 7)
            _, record, counts = make_record(quality=quality, seed=cell.seed)
            labels = {name: part.label for name, part in cell.components.items()}
            record = replace(record, cell=cell.identity, labels=labels)
            store.write(cell, record, counts, [f"image_{i}" for i in range(len(counts))])
            scores[cell.id] = quality
    return suite


@pytest.fixture(scope="session")
def tuned_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    fill_tuned(folder)
    assert make(folder / "results", folder / "out") == 0
    return folder / "out"


def make(results: Path, out: Path, *options: str) -> int:
    return entry.run(["report", "--results", str(results), "--out", str(out), "--stamp", "now", *options])


@pytest.fixture(scope="session")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    assert make(results, out) == 0
    return out
