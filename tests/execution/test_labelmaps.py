"""Written label maps: what official evaluators make of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench import metrics
from lossbench.datasets.cityscapes import Cityscapes
from lossbench.datasets.voc2010 import VOC2010
from lossbench.errors import ConfigError, SetupError
from lossbench.execution.labelmaps import FORMATS, LabelMapWriter, cityscapes, png
from tests.datasets import trees
from tests.execution.official import evaluate_cityscapes


def test_the_official_evaluator_finds_and_scores_what_is_written_as_we_do(tmp_path: Path) -> None:
    dataset = Cityscapes(trees.cityscapes(tmp_path / "data", {"train": 1, "val": 3}))
    rng = np.random.default_rng(0)
    # "train" is in neither truth nor prediction, "bus" is predicted but never true, "wall" true but never predicted.
    train, bus, wall = (dataset.class_names.index(name) for name in ("train", "bus", "wall"))
    for file in dataset.files("val")[1::2]:
        raw = np.asarray(Image.open(file)).copy()
        raw[np.isin(raw, [28, 31])] = 7
        Image.fromarray(raw).save(file)
    writer = LabelMapWriter(tmp_path / "out", dataset.names("val"), cityscapes(dataset))
    ours = np.zeros((19, 19), np.int64)
    for index in range(3):
        truth = dataset.load("val", index)[1]
        assert {255, wall} <= set(np.unique(truth))
        random = rng.choice(np.setdiff1d(np.arange(19), [train, wall]), truth.shape).astype(np.uint8)
        guess = np.where((truth != 255) & (truth != wall) & (rng.random(truth.shape) < 0.6), truth, random)
        writer(index, guess)
        ours += metrics.confusion_matrix(truth, guess, 19)
    writer.finish()
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names[0] == "aachen_000000_000019_pred_labelIds.png"

    theirs = evaluate_cityscapes(tmp_path / "data", tmp_path / "out", tmp_path / "export")
    ids = np.array(dataset.official_ids)
    assert (np.array(theirs["confMatrix"])[np.ix_(ids, ids)] == ours).all()
    scores = metrics.iou(ours)
    expected = [theirs["classScores"][name] for name in dataset.class_names]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9, equal_nan=True)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [train]
    assert scores[bus] == scores[wall] == 0
    assert metrics.mean_iou(ours) == pytest.approx(theirs["averageScoreClasses"], abs=1e-9)


def test_png_holds_class_indices_in_the_dataset_s_colors(tmp_path: Path) -> None:
    dataset = VOC2010(tmp_path)
    labels = np.arange(21, dtype=np.uint8).reshape(3, 7)
    writer = LabelMapWriter(tmp_path / "out", ["a/b.c"], png(dataset))
    writer(0, labels)
    writer.finish()
    picture = Image.open(tmp_path / "out" / "a" / "b.c.png")
    assert (np.asarray(picture) == labels).all()
    assert (np.asarray(picture.convert("RGB")).reshape(-1, 3) == dataset.colors).all()


def test_cityscapes_format_is_for_cityscapes_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="label ids can be written as cityscapes") as caught:
        cityscapes(VOC2010(tmp_path))
    assert caught.value.hint == "use --format png"
    with pytest.raises(ConfigError, match="'photo' is not named as Cityscapes' are"):
        cityscapes(Cityscapes(tmp_path))("photo", np.zeros((2, 2), np.uint8))


def test_the_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    form = FORMATS["png"](VOC2010(tmp_path))
    writer = LabelMapWriter(tmp_path / "out", ["a"], form)
    writer(0, np.zeros((2, 2), np.uint8))
    assert not (tmp_path / "out").exists()
    writer.abandon()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    writer = LabelMapWriter(tmp_path / "out", ["a"], form)
    writer(0, np.zeros((2, 2), np.uint8))
    writer.finish()
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "a.png"]
    with pytest.raises(ConfigError, match="out is not empty"):
        LabelMapWriter(tmp_path / "out", ["a"], form)


@pytest.mark.parametrize("name", [".", "..", "sub/..", "link"])
def test_a_folder_by_another_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    (here / "sub" if name == "sub/.." else here).mkdir(parents=True)
    (tmp_path / "link").symlink_to(here)
    monkeypatch.chdir(here)
    out = Path("../link") if name == "link" else Path(name)
    form = FORMATS["png"](VOC2010(tmp_path))
    if name in ("..", "sub/.."):
        with pytest.raises(ConfigError, match=f"{tmp_path if name == '..' else here} is not empty"):
            LabelMapWriter(out, ["a"], form)
        return
    before = os.stat(".").st_ino
    writer = LabelMapWriter(out, ["a/b", "c"], form)
    assert writer.folder == here
    assert sorted(os.listdir(tmp_path))[0].startswith(".here."), "beside it, under its name"
    for index in range(2):
        writer(index, np.zeros((2, 2), np.uint8))
    writer.finish()
    assert sorted(os.listdir(tmp_path)) == ["here", "link"]
    assert sorted(os.listdir(".")) == ["a", "c.png"]
    assert os.stat(here).st_ino == before, "the user still stands in it"


def test_a_root_and_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    form = FORMATS["png"](VOC2010(tmp_path))
    with pytest.raises(ConfigError, match="/ is a root"):
        LabelMapWriter(Path("/"), ["a"], form)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(SetupError, match="cannot write predictions to"):
        LabelMapWriter(tmp_path / "a", ["a"], form)


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot write predictions to"):
        LabelMapWriter(tmp_path / "file" / "out", ["a"], png(VOC2010(tmp_path)))
    assert os.listdir(tmp_path) == ["file"]
