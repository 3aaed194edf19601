from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench.datasets.ade20k import ADE20K
from lossbench.datasets.base import WARNING
from lossbench.errors import DataError
from tests.datasets.catalogue_trees import ade20k
from tests.datasets.trees import pair, save


def test_classes_are_those_of_the_benchmark_in_its_order() -> None:
    dataset = ADE20K(Path())
    assert dataset.num_classes == 150
    # Ids of objectInfo150.txt, from 1.
    known = {1: "wall", 13: "person", 21: "car", 59: "screen door", 100: "buffet", 131: "screen", 144: "monitor",
             150: "flag"}  # fmt: skip
    assert {i: dataset.class_names[i - 1] for i in known} == known
    colors = dict(zip(dataset.class_names, dataset.colors, strict=True))
    assert (colors["sky"], colors["person"], colors["flag"]) == ((6, 230, 230), (150, 5, 61), (92, 0, 255))
    assert [dataset.official_ids[i] for i in (0, 149)] == [1, 150]


@pytest.mark.parametrize("below", ["ADEChallengeData2016", ""])
def test_ids_are_one_less_and_other_objects_are_ignored(tmp_path: Path, below: str) -> None:
    dataset = ADE20K(ade20k(tmp_path, below))
    assert dataset.names("train") == ("ADE_train_00000001", "ADE_train_00000002", "ADE_train_00000003")
    assert dataset.names("val") == ("ADE_val_00000001", "ADE_val_00000002")
    raw = np.asarray(Image.open(tmp_path / below / "annotations/validation/ADE_val_00000002.png")).astype(int)
    image, target = dataset.load("val", 1)
    assert set(np.unique(raw)) == set(range(151))
    assert (target == np.where(raw == 0, 255, raw - 1)).all()
    assert image.shape == (32, 24, 3)


def test_what_is_missing_or_odd_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ade20k: no images in") as caught:
        ADE20K(tmp_path).names("train")
    assert "lossbench data get ade20k" in (caught.value.hint or "")
    assert "LOSSBENCH_DATA" in (caught.value.hint or "")
    base = ade20k(tmp_path) / "ADEChallengeData2016"
    with pytest.raises(DataError, match="ade20k has no split 'training'"):
        ADE20K(tmp_path).names("training")
    problems = ADE20K(tmp_path).check()
    assert [p.startswith(WARNING) for p in problems] == [True, True]
    assert "3 images, the published split has 20210" in problems[0]
    (base / "images/validation/ADE_val_00000001.jpg").unlink()
    assert any("val: 1 labels without an image, the first: " in p for p in ADE20K(tmp_path).check())
    (base / "annotations/validation/ADE_val_00000002.png").unlink()
    with pytest.raises(
        DataError, match=r"ADE_val_00000002\.jpg: no label .*annotations/validation/ADE_val_00000002\.png"
    ):
        ADE20K(tmp_path).names("val")
    (base / "annotations/validation").rename(base / "away")
    with pytest.raises(DataError, match=r"ade20k: no folder .*annotations/validation"):
        ADE20K(tmp_path).names("val")


def test_braces_in_a_path_do_no_harm(tmp_path: Path) -> None:
    base = ade20k(tmp_path / "{set}") / "ADEChallengeData2016"
    (base / "annotations/training/ADE_train_00000002.png").unlink()
    with pytest.raises(DataError, match=r"no label .*\{set\}.*ADE_train_00000002\.png$"):
        ADE20K(tmp_path / "{set}").names("train")


def test_labels_that_are_reduced_already_or_of_the_full_dataset_are_refused(tmp_path: Path) -> None:
    dataset = ADE20K(ade20k(tmp_path))
    file = dataset.files("val")[1]
    save(file, pair(0, [0, 149, 255])[1])
    with pytest.raises(DataError, match=r"id 255 out of range in .*files that were reduced to 0\.\.149 already"):
        dataset.load("val", 0)
    save(file, np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(DataError, match="an RGB picture, not class ids") as caught:
        dataset.load("val", 0)
    assert "not the full ADE20K's" in (caught.value.hint or "")
    save(file, np.ones((25, 32), np.uint8))
    assert any("the mask is 32x25, its image" in problem for problem in dataset.check())
