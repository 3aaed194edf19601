from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench.datasets.base import WARNING
from lossbench.datasets.camvid import EXPECTED_COUNTS, CamVid
from lossbench.errors import DataError
from tests.datasets import trees


def test_order_is_that_of_the_list_by_base_name(tmp_path: Path) -> None:
    dataset = CamVid(trees.camvid(tmp_path))
    assert dataset.names("train") == ("0001TP_000002", "0001TP_000001", "0001TP_000000")
    (tmp_path / "train.txt").unlink()
    assert CamVid(tmp_path).names("train") == ("0001TP_000000", "0001TP_000001", "0001TP_000002")


def test_void_becomes_ignored_and_ids_stay(tmp_path: Path) -> None:
    dataset = CamVid(trees.camvid(tmp_path))
    raw = np.asarray(Image.open(tmp_path / "trainannot" / "0001TP_000002.png"))
    _, target = dataset.load("train", 0)
    assert (target[raw == 11] == 255).all()
    assert (target[raw < 11] == raw[raw < 11]).all()


def test_test_split_only_when_it_is_there(tmp_path: Path) -> None:
    assert CamVid(trees.camvid(tmp_path / "a")).splits == ("train", "val")
    assert CamVid(trees.camvid(tmp_path / "b", {"train": 1, "val": 1, "test": 1})).splits == ("train", "val", "test")


def test_check_warns_of_counts_only(tmp_path: Path) -> None:
    problems = CamVid(trees.camvid(tmp_path)).check()
    assert len(problems) == 2
    assert all(p.startswith(WARNING) for p in problems)
    assert "3 images, the published split has 367" in problems[0]


def test_missing_root_says_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*nothing/train") as caught:
        CamVid(tmp_path / "nothing").names("train")
    assert caught.value.exit_code == 3
    assert "SegNet" in (caught.value.hint or "")
    assert "LOSSBENCH_DATA" in (caught.value.hint or "")


def test_missing_mask(tmp_path: Path) -> None:
    trees.camvid(tmp_path)
    (tmp_path / "valannot" / "0001TP_000001.png").unlink()
    with pytest.raises(DataError, match=r"val/0001TP_000001\.png: no mask .*valannot/0001TP_000001\.png"):
        CamVid(tmp_path).names("val")


def test_listed_image_that_is_not_there(tmp_path: Path) -> None:
    trees.camvid(tmp_path)
    (tmp_path / "val" / "0001TP_000001.png").unlink()
    with pytest.raises(DataError, match=r"val\.txt lists 0001TP_000001"):
        CamVid(tmp_path).names("val")


def test_id_out_of_range_names_file_id_and_pixels(tmp_path: Path) -> None:
    trees.camvid(tmp_path)
    _, mask = trees.pair(0, [0, 1])
    mask[:2, :5] = 12
    mask[3, 3] = 40
    trees.save(tmp_path / "valannot" / "0001TP_000000.png", mask)
    dataset = CamVid(tmp_path)
    with pytest.raises(DataError, match=r"valannot/0001TP_000000\.png: id 12, 40 out of range in 11 of 768 pixels"):
        dataset.load("val", dataset.names("val").index("0001TP_000000"))
    assert any("out of range" in p for p in dataset.check())


def test_a_new_file_time_changes_the_fingerprint(tmp_path: Path) -> None:
    dataset = CamVid(trees.camvid(tmp_path))
    before = dataset.fingerprint("train")
    os.utime(tmp_path / "trainannot" / "0001TP_000000.png", (1, 1))
    assert dataset.fingerprint("train") != before


REAL = Path(os.environ.get("LOSSBENCH_DATA", "/nonexistent")) / "camvid"
needs_camvid = pytest.mark.skipif(not REAL.is_dir(), reason="no CamVid under LOSSBENCH_DATA")

#: Percent of the labelled training pixels, as published tables give them.
SHARES = (17.54, 24.21, 1.023, 32.96, 4.67, 10.12, 1.221, 1.173, 6.11, 0.666, 0.304)


@pytest.mark.camvid
@needs_camvid
def test_real_train_split_has_the_known_shares() -> None:
    dataset = CamVid(REAL)
    assert len(dataset.names("train")) == EXPECTED_COUNTS["train"]
    counts = np.zeros(256, np.int64)
    for index in range(len(dataset.names("train"))):
        target = dataset.load("train", index)[1]
        assert target.shape == (360, 480)
        counts += np.bincount(target.ravel(), minlength=256)
    assert set(np.flatnonzero(counts)) == {*range(11), 255}
    shares = 100 * counts[:11] / counts[:11].sum()
    np.testing.assert_allclose(shares, SHARES, rtol=1.5e-3)
    assert round(counts[:11].max() / counts[:11].min()) in (108, 109)


@pytest.mark.camvid
@needs_camvid
def test_real_val_split_has_no_problem() -> None:
    dataset = CamVid(REAL)
    assert len(dataset.names("val")) == EXPECTED_COUNTS["val"]
    targets = [dataset.load("val", i)[1] for i in range(len(dataset.names("val")))]
    counts = np.bincount(np.concatenate([t.ravel() for t in targets]), minlength=256)
    assert 100 * counts[10] / counts[:11].sum() == pytest.approx(2.26, abs=0.01)
