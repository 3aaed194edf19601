from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench.datasets.base import WARNING
from lossbench.datasets.bdd100k import BDD100K
from lossbench.datasets.cityscapes import Cityscapes
from lossbench.errors import DataError
from tests.datasets.catalogue_trees import bdd100k
from tests.datasets.trees import pair, save

NAMES = ("0a0a0b1a-7c39d841", "b1c66a42-6f7d68ca")


@pytest.mark.parametrize("below", ["bdd100k", ""])
@pytest.mark.parametrize("old", [False, True])
def test_both_layouts_hold_the_same(tmp_path: Path, old: bool, below: str) -> None:
    dataset = BDD100K(bdd100k(tmp_path, old=old, below=below))
    assert dataset.names("train") == NAMES
    for index in range(2):
        raw = np.asarray(Image.open(dataset.files("train")[2 * index + 1]))
        assert set(np.unique(raw)) == {*range(19), 255}
        assert (dataset.load("train", index)[1] == raw).all()
    assert dataset.unlabelled_names("test") == ("cabc30fc-e7726578",)
    assert dataset.unlabelled_image("test", 0).shape == (24, 32, 3)
    with pytest.raises(DataError, match="'test' cannot be scored"):
        dataset.names("test")
    layout = "seg/images, seg/labels" if old else "images/10k, labels/sem_seg/masks"
    assert dataset.notes == (f"layout: {layout}",)


def test_of_both_layouts_the_newer_is_read_if_it_is_whole(tmp_path: Path) -> None:
    bdd100k(tmp_path, old=True)
    (tmp_path / "bdd100k/images/10k/train").mkdir(parents=True)
    assert "seg/images" in BDD100K(tmp_path).notes[0], "images without labels"
    bdd100k(tmp_path)
    assert "images/10k" in BDD100K(tmp_path).notes[0]


def test_classes_are_those_of_cityscapes() -> None:
    ours, theirs = BDD100K(Path()), Cityscapes(Path())
    assert ours.class_names == theirs.class_names
    assert ours.colors == theirs.colors


def test_what_is_missing_or_odd_is_said(tmp_path: Path) -> None:
    save(tmp_path / "bdd100k/images/100k/train/b1c66a42-6f7d68ca.jpg", pair(0, [0])[0])
    with pytest.raises(DataError, match="bdd100k: no bdd100k/images/10k with bdd100k/labels/sem_seg") as caught:
        BDD100K(tmp_path).names("train")
    assert "`10K Images` and `Semantic Segmentation`" in (caught.value.hint or "")
    base = bdd100k(tmp_path) / "bdd100k"
    problems = BDD100K(tmp_path).check()
    assert all(problem.startswith(WARNING) for problem in problems)
    assert "images are not 1280x720" in problems[0]
    assert "2 images, the published split has 7000" in problems[1]
    (base / "labels/sem_seg/masks/train" / f"{NAMES[0]}.png").unlink()
    with pytest.raises(DataError, match=rf"no label .*labels/sem_seg/masks/train/{NAMES[0]}\.png"):
        BDD100K(tmp_path).names("train")
    label = base / "labels/sem_seg/masks/val/7d2f7975-e0c1c5a7.png"
    save(label, pair(0, [0, 33])[1])
    with pytest.raises(DataError, match=r"id 33 out of range .*train ids 0\.\.18"):
        BDD100K(tmp_path).load("val", 0)
    save(label, pair(0, [0])[0])
    with pytest.raises(DataError, match="an RGB picture") as caught:
        BDD100K(tmp_path).load("val", 0)
    assert "not the colormaps" in (caught.value.hint or "")
    (base / "labels/sem_seg/masks").rename(base / "away")
    with pytest.raises(DataError, match=r"no folder .*labels/sem_seg/masks/val"):
        BDD100K(tmp_path).names("val")
