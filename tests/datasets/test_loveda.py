from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench.datasets.base import WARNING
from lossbench.datasets.loveda import LoveDA
from lossbench.errors import ConfigError, DataError
from lossbench.registry import Registry
from tests.datasets.catalogue_trees import loveda
from tests.datasets.trees import pair, save

ALL = ("Rural/12", "Rural/3", "Urban/12", "Urban/3")


def test_one_number_in_both_scenes_is_two_images(tmp_path: Path) -> None:
    dataset = LoveDA(loveda(tmp_path))
    assert dataset.names("train") == dataset.names("val") == ALL
    for index, name in enumerate(ALL):
        scene, number = name.split("/")
        image, target = dataset.load("val", index)
        assert (image == np.asarray(Image.open(tmp_path / "Val" / scene / "images_png" / f"{number}.png"))).all()
        raw = np.asarray(Image.open(tmp_path / "Val" / scene / "masks_png" / f"{number}.png")).astype(int)
        assert set(np.unique(raw)) == set(range(8))
        assert (target == np.where(raw == 0, 255, raw - 1)).all()
    assert dataset.class_names[0] == "background"


def test_a_scene_alone(tmp_path: Path) -> None:
    loveda(tmp_path)
    prints = {LoveDA(tmp_path).fingerprint("train")}
    for scene in ("urban", "rural"):
        dataset = Registry("dataset").get("loveda").build({"scene": scene}, root=tmp_path)
        assert dataset.names("train") == tuple(name for name in ALL if name.lower().startswith(scene))
        prints.add(dataset.fingerprint("train"))
    assert len(prints) == 3
    with pytest.raises(ConfigError, match="scene"):
        Registry("dataset").get("loveda").build({"scene": "suburban"}, root=tmp_path)


@pytest.mark.parametrize(("scene", "train", "val"), [("all", 2522, 1669), ("urban", 1156, 677), ("rural", 1366, 992)])
def test_check_warns_of_counts_of_the_scene_and_of_sizes(tmp_path: Path, scene: str, train: int, val: int) -> None:
    problems = Registry("dataset").get("loveda").build({"scene": scene}, root=loveda(tmp_path)).check()
    assert all(problem.startswith(WARNING) for problem in problems)
    assert f"the published split has {train}" in problems[1]
    assert f"the published split has {val}" in problems[3]
    assert "images are not 1024x1024" in problems[0]


def test_test_has_images_only(tmp_path: Path) -> None:
    dataset = LoveDA(loveda(tmp_path))
    assert dataset.splits == ("train", "val")
    assert dataset.unlabelled_names("test") == ALL
    first = np.asarray(Image.open(tmp_path / "Test/Rural/images_png/12.png"))
    assert (dataset.unlabelled_image("test", 0) == first).all()
    with pytest.raises(DataError, match="'test' cannot be scored: its labels are not public") as caught:
        dataset.names("test")
    assert "--split test" in (caught.value.hint or "")
    with pytest.raises(DataError, match="no split 'val'"):
        dataset.unlabelled_names("val")


def test_what_is_missing_or_odd_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"loveda: no folder .*Train/Rural/images_png") as caught:
        LoveDA(tmp_path).names("train")
    assert "lossbench data get loveda" in (caught.value.hint or "")
    loveda(tmp_path)
    (tmp_path / "Train/Urban/masks_png/12.png").unlink()
    with pytest.raises(DataError, match=r"Urban/images_png/12\.png: no label .*Train/Urban/masks_png/12\.png$"):
        LoveDA(tmp_path).names("train")
    assert LoveDA(tmp_path, scene="rural").names("train") == ALL[:2], "that Rural has a 12 does not help Urban"
    (tmp_path / "Val/Rural/images_png/3.png").unlink()
    assert any("val: 1 labels without an image" in problem for problem in LoveDA(tmp_path).check())
    save(tmp_path / "Val/Rural/masks_png/12.png", pair(0, [1, 8])[1])
    with pytest.raises(DataError, match=r"Rural/masks_png/12\.png: id 8 out of range .*1\.\.7, 0 = no data"):
        LoveDA(tmp_path).load("val", 0)
