"""A record that says it is done, and data that is not what it was made from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench import metrics
from lossbench.cells import Cell
from lossbench.cli.main import run
from lossbench.data.cache import CachedSplit, open_split
from lossbench.data.roots import cache_root
from lossbench.datasets.folder import Folder
from lossbench.provenance import code_hash
from lossbench.registry import KINDS
from lossbench.store import Store
from lossbench.suite import load_suite
from tests.factories import make_record

SUITE = """
datasets: [{{name: folder, title: roads, path: {path}, classes: [a, b, c]}}]
backbones: [{{name: fcn_timm, weights: none}}]
losses: [ce]
"""


def write_masks(root: Path, share: float) -> None:
    """Two pairs a split, of which the masks hold `share` of class a."""
    for split in ("train", "val"):
        for number in range(2):
            rng = np.random.default_rng([len(split), number])
            label = np.where(rng.random((12, 16)) < share, 0, rng.integers(1, 3, (12, 16))).astype(np.uint8)
            for what, pixels in (("images", rng.integers(0, 255, (12, 16, 3), np.uint8)), ("masks", label)):
                folder = root / what / split
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{number}.png")


def decoded(root: Path) -> tuple[CachedSplit, CachedSplit]:
    data = Folder(title="roads", path=root, classes=["a", "b", "c"])
    return open_split(data, "train", cache_root=cache_root()), open_split(data, "val", cache_root=cache_root())


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """Of a suite in the current folder, with its record, which today's code made from the masks that lie there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    write_masks(tmp_path / "data", 0.3)
    train, val = decoded(tmp_path / "data")
    Path("s.yaml").write_text(SUITE.format(path=tmp_path / "data"))
    suite = load_suite("s.yaml")
    (made,) = suite.cells()
    _, record, _ = make_record(class_names=("a", "b", "c"), shares=(1, 1, 1))
    record.cell = made.identity
    record.labels = {kind: made.components[kind].label for kind in KINDS}
    record.train_pixels = train.class_counts.tolist()
    confusions = np.stack([np.diag(np.bincount(label.ravel(), minlength=3)) for label in map(val.target, range(2))])
    record.confusion = confusions.sum(axis=0)
    registries = suite.registries
    code = {kind: code_hash(registries[kind].get(c.name), c.params) for kind, c in made.components.items()}
    record.provenance |= {"code": code, "data": {"train": train.fingerprint, "val": val.fingerprint}}
    Store(Path("results")).write(made, record, metrics.counts_per_image(confusions), ["0", "1"])
    return made


def said(capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["run", "s.yaml"]) == 0
    err = " ".join(capsys.readouterr().err.split())
    assert "1 cells, 1 done before, 0 to run" in err
    return err


def test_nothing_is_said_of_the_data_it_was_made_from(cell: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    assert "data" not in said(capsys)
    shutil.rmtree("data")  # what is done needs none
    assert "data" not in said(capsys)
    write_masks(Path("data"), 0.3)
    shutil.rmtree("cache")
    assert "the files of roads are not those that its records were made from" in said(capsys)
    decoded(Path("data").absolute())  # a fresh copy, then
    assert "data" not in said(capsys)


def test_other_masks_make_a_record_stale(cell: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    write_masks(Path("data"), 0.6)
    assert "the files of roads are not those that its records were made from" in said(capsys)
    decoded(Path("data").absolute())
    text = said(capsys)
    assert "from other data (data of roads changed since (other labelled pixels per class)); --rerun-stale" in text
    assert "files of roads" not in text


def test_other_masks_of_the_scored_split_alone(cell: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    train = Path("data/masks/train").absolute()
    train.rename("kept")
    write_masks(Path("data"), 0.6)
    shutil.rmtree(train)
    Path("kept").rename(train)
    decoded(Path("data").absolute())
    assert "data of roads changed since" in said(capsys)
