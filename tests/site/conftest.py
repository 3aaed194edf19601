"""A results folder with everything a report may meet, and a report of it; made once a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.cli import main as entry
from lossbench.store import Store
from tests.factories import put, quickstart

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}../../etc"


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


def make(results: Path, out: Path, *options: str) -> int:
    return entry.run(["report", "--results", str(results), "--out", str(out), "--stamp", "now", *options])


@pytest.fixture(scope="session")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    assert make(results, out) == 0
    return out
