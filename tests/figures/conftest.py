"""Boards to draw: one made of random counts, and a tiny one of real label maps with kept predictions."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lossbench import metrics
from lossbench.data.cache import open_split
from lossbench.execution.predictions import KeptPredictions
from lossbench.leaderboard import build
from lossbench.registry import Registry
from lossbench.standings import Block
from lossbench.store import Store
from tests.execution.cellfactory import STREETS, make_cell, make_spec
from tests.factories import make_record, quickstart


@pytest.fixture
def store(tmp_path: Path) -> Store:
    quickstart(Store(tmp_path / "results"))
    return Store(tmp_path / "results")


@pytest.fixture
def block(store: Store) -> Block:
    (block,) = build(store.runs()[0])
    return block


@dataclass(frozen=True)
class Kept:
    """Runs of ce and focal, seeds 0 and 1, on `streets`; focal is wrong in the left half of every image."""

    results: Path

    @property
    def store(self) -> Store:
        return Store(self.results)

    @property
    def block(self) -> Block:
        (block,) = build(self.store.runs()[0])
        return block

    @property
    def runs(self) -> list[Path]:
        return sorted((self.results / "runs").iterdir())


@pytest.fixture(scope="session")
def kept_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kept")
    dataset = Registry("dataset").get("streets").build(STREETS, root=root)
    split = open_split(dataset, "val", cache_root=root / "cache")
    store = Store(root / "results")
    for loss in ("focal", "ce"):
        for seed in (0, 1):
            cell = make_cell(loss, seed)
            spec = make_spec(cell, store.root, root / "cache")
            kept = KeptPredictions(spec.run_dir, split, images=2)
            writer = kept.writer(dataset.colors)
            matrices = []
            for index in range(len(split)):
                truth = split.target(index)
                labels = np.where(truth == 255, 0, truth).astype(np.uint8)
                if loss == "focal":
                    labels[:, : labels.shape[1] // 2] = 3
                matrices.append(metrics.confusion_matrix(truth, labels, dataset.num_classes))
                assert writer is not None
                writer(index, labels)
            kept.finish("val")
            per_image = metrics.counts_per_image(np.stack(matrices))
            record = replace(
                make_record()[1],
                cell=cell.identity,
                labels={"dataset": "streets", "backbone": "fcn_timm", "loss": loss},
                class_names=list(dataset.class_names),
                confusion=np.sum(matrices, axis=0),
                train_pixels=[int(n) for n in split.class_counts],
            )
            store.write(cell, record, per_image, split.names)
    return store.root


@pytest.fixture
def kept(kept_once: Path, tmp_path: Path) -> Kept:
    """A copy that a test may spoil."""
    return Kept(Path(shutil.copytree(kept_once, tmp_path / "kept")))
