from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels
from PIL import Image

from lossbench.datasets.base import WARNING
from lossbench.datasets.cityscapes import CLASSES, Cityscapes
from lossbench.errors import DataError
from tests.datasets import trees

SCORED = [label for label in labels if not label.ignoreInEval and label.id >= 0]


def test_classes_are_those_of_the_official_table() -> None:
    theirs = {label.name: (label.id, label.color) for label in sorted(SCORED, key=lambda label: label.trainId)}
    assert list(CLASSES.items()) == list(theirs.items())
    assert [label.trainId for label in SCORED] == list(range(19))


@pytest.mark.parametrize("apart", [False, True])
def test_label_ids_become_the_official_train_ids(tmp_path: Path, apart: bool) -> None:
    dataset = Cityscapes(trees.cityscapes(tmp_path, apart=apart))
    assert dataset.names("train") == (
        "aachen/aachen_000000_000019",
        "aachen/aachen_000002_000019",
        "bad-honnef/bad-honnef_000001_000019",
    )
    raw = np.asarray(Image.open(dataset.files("train")[1]))
    assert set(np.unique(raw)) == set(range(34))
    table = np.full(256, 255)
    for label in SCORED:
        table[label.id] = label.trainId
    assert (dataset.load("train", 0)[1] == table[raw]).all()
    assert (table[np.array(dataset.official_ids)] == np.arange(19)).all()


def test_test_is_not_scored_but_read(tmp_path: Path) -> None:
    dataset = Cityscapes(trees.cityscapes(tmp_path))
    for call in (dataset.names, dataset.files, dataset.fingerprint):
        with pytest.raises(DataError, match="'test' cannot be scored: its label files are dummies") as caught:
            call("test")
    assert "--split test --format cityscapes" in (caught.value.hint or "")
    assert dataset.unlabelled_splits == ("test",)
    assert dataset.unlabelled_names("test") == ("aachen/aachen_000000_000019",)
    assert dataset.unlabelled_image("test", 0).shape == (*trees.SIZE, 3)
    with pytest.raises(DataError, match="no split 'val'"):
        dataset.unlabelled_names("val")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*leftImg8bit/train") as caught:
        Cityscapes(tmp_path / "nothing").names("train")
    assert "register at" in (caught.value.hint or "")
    trees.cityscapes(tmp_path, {"train": 3, "val": 2})
    for file in (tmp_path / "gtFine" / "train" / "aachen").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"no label .*gtFine/train/aachen/.*labelIds\.png \(2 of 3 images have none\)"):
        Cityscapes(tmp_path).names("train")
    problems = Cityscapes(tmp_path).check()
    assert "2 of 3 images have none" in problems[0]
    assert all(problem.startswith(WARNING) for problem in problems[1:])


def test_check_warns_of_counts_and_sizes(tmp_path: Path) -> None:
    problems = Cityscapes(trees.cityscapes(tmp_path)).check()
    assert [p for p in problems if not p.startswith(WARNING)] == []
    assert (
        "3 of 3 images are not 2048x1024 (width x height), the first: aachen/aachen_000000_000019 is 32x24"
        in (problems[0])
    )
    assert "3 images, the published split has 2975" in problems[1]


@pytest.mark.parametrize("bad", [34, 200])
def test_an_unknown_id_is_an_error(tmp_path: Path, bad: int) -> None:
    dataset = Cityscapes(trees.cityscapes(tmp_path))
    _, mask = trees.pair(0, [7, bad])
    trees.save(dataset.files("val")[1], mask)
    with pytest.raises(DataError, match=rf"labelIds\.png: id {bad} out of range in"):
        dataset.load("val", 0)
    trees.save(dataset.files("val")[1], np.zeros((*trees.SIZE, 3), np.uint8))
    assert any("an RGB picture, not class ids" in problem for problem in dataset.check())
