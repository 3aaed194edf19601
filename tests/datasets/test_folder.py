from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lossbench.datasets._pairs import _in_val
from lossbench.datasets.folder import Folder, distinct_colors
from lossbench.errors import ConfigError, DataError
from lossbench.registry import Registry
from tests.datasets import trees

ABC = ["a", "b", "c"]


def make(path: Path, **options: Any) -> Folder:
    """Through the registry, as a suite does: strict types included."""
    given_params = {"title": "demo", "path": str(path), "classes": ABC, **options}
    return Registry("dataset").get("folder").build(given_params)


def test_grey_masks_with_255_ignored(tmp_path: Path) -> None:
    dataset = make(trees.folder(tmp_path))
    assert dataset.names("train") == ("img0", "img1", "img2")
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.title == "demo"
    _, target = dataset.load("train", 1)
    assert (target == trees.pair(1, [0, 1, 2, 255])[1]).all()
    assert dataset.check() == []


def test_palette_16_bit_and_binary_masks(tmp_path: Path) -> None:
    _, mask = trees.pair(0, [0, 1, 2])
    trees.folder(tmp_path, count=4)
    palette = Image.new("P", (mask.shape[1], mask.shape[0]))
    palette.putdata(mask.ravel().tolist())
    palette.putpalette([9, 9, 9, 50, 60, 70, 1, 2, 3] + [0] * 759)
    palette.save(tmp_path / "masks/train/img0.png")
    trees.save(tmp_path / "masks/train/img1.png", mask.astype(np.uint16))
    Image.fromarray(mask > 0).save(tmp_path / "masks/train/img2.png")
    trees.save(tmp_path / "masks/train/img3.png", np.stack([mask] * 3, axis=-1))
    dataset = make(tmp_path)
    for index in (0, 1, 3):
        assert (dataset.load("train", index)[1] == mask).all(), index
    assert (dataset.load("train", 2)[1] == (mask > 0)).all()


def test_ids_may_be_any_and_several_make_one_class(tmp_path: Path) -> None:
    trees.folder(tmp_path, ids=(7, 26, 27, 3))
    dataset = make(tmp_path, classes={"car": [26, 27], "road": 7}, ignore=[3])
    assert dataset.class_names == ("road", "car"), "ordered by id, whatever the order of the mapping"
    raw = trees.pair(0, [7, 26, 27, 3])[1]
    expected = np.select([raw == 7, raw == 3], [0, 255], 1)
    assert (dataset.load("train", 0)[1] == expected).all()


def test_binary_masks_of_0_and_255_need_no_more_than_their_ids(tmp_path: Path) -> None:
    trees.folder(tmp_path, ids=(0, 255))
    dataset = make(tmp_path, classes={"skin": 0, "lesion": 255})
    assert set(np.unique(dataset.load("val", 0)[1])) == {0, 1}


def test_rgb_masks_by_color(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    colors = {"a": [128, 64, 128], "b": [0, 0, 142], "c": [1, 2, 3]}
    raw = trees.pair(0, [0, 1, 2, 3])[1]
    table = np.array([*colors.values(), [0, 0, 0]], np.uint8)
    for split in ("train", "val"):
        for index in range(3):
            trees.save(tmp_path / f"masks/{split}/img{index}.png", table[raw])
    dataset = make(tmp_path, colors=colors, ignore=[[0, 0, 0]])
    assert (dataset.load("train", 0)[1] == np.where(raw == 3, 255, raw)).all()
    assert dataset.colors[0] == (128, 64, 128)
    with pytest.raises(DataError, match=r"img0\.png: color \[0, 0, 0\] in \d+ of 768 pixels belongs to no class"):
        make(tmp_path, colors=colors).load("train", 0)
    with pytest.raises(DataError, match=r"an RGB mask, but `colors` is not set"):
        make(tmp_path).load("train", 0)


def test_suffixes_sub_folders_and_one_folder_for_both(tmp_path: Path) -> None:
    image, mask = trees.pair(0, [0, 1, 2])
    for split in ("train", "val"):
        for city in ("ulm", "bonn"):
            trees.save(tmp_path / split / city / "x_left.png", image)
            trees.save(tmp_path / split / city / "x_label.png", mask)
            trees.save(tmp_path / split / city / "x_color.png", image)
    dataset = make(tmp_path, images="{split}", masks="{split}", image_suffix="_left", mask_suffix="_label")
    assert dataset.names("val") == ("bonn/x", "ulm/x")
    flat = tmp_path / "flat"
    trees.save(flat / "x.jpg", image)
    trees.save(flat / "x_mask.png", mask)
    pairs = make(flat, images=".", masks=".", mask_suffix="_mask", val_fraction=0.999999).pairs("val")
    assert [(p.image.name, p.mask.name) for p in pairs] == [("x.jpg", "x_mask.png")]


def test_lists(tmp_path: Path) -> None:
    for index in range(4):
        image, mask = trees.pair(index, [0, 1, 2])
        trees.save(tmp_path / "img" / f"n{index}.v1.png", image)
        trees.save(tmp_path / "lab" / f"n{index}.v1.png", mask)
    (tmp_path / "train.txt").write_text("n2.v1\n# a comment\n/elsewhere/img/n0.v1.png lab/n0.v1.png\n\n")
    (tmp_path / "val.txt").write_text("n3.v1.png\nn9.v1.png\n")
    dataset = make(tmp_path, images="img", masks="lab", lists="{split}.txt")
    assert dataset.splits == ("train", "val")
    assert dataset.names("train") == ("n2.v1", "n0.v1")
    with pytest.raises(DataError, match=r"val\.txt:2: no image 'n9\.v1\.png'") as caught:
        dataset.names("val")
    assert "did you mean" in (caught.value.hint or "")
    (tmp_path / "val.txt").write_text("n1.v1\nn1.v1\n")
    with pytest.raises(DataError, match=r"val\.txt:2: 'n1\.v1' is listed twice"):
        make(tmp_path, images="img", masks="lab", lists="{split}.txt").names("val")
    with pytest.raises(DataError, match=r"test\.txt: cannot read the list"):
        dataset.names("test")


def test_val_fraction_splits_by_name(tmp_path: Path) -> None:
    for index in range(40):
        image, mask = trees.pair(index, [0, 1], (4, 4))
        trees.save(tmp_path / "images" / f"{index}.png", image)
        trees.save(tmp_path / "masks" / f"{index}.png", mask)
    options = {"images": "images", "masks": "masks", "val_fraction": 0.3}
    train, val = (set(make(tmp_path, **options).names(s)) for s in ("train", "val"))
    assert train | val == {str(i) for i in range(40)}
    assert not train & val
    assert 4 <= len(val) <= 20
    trees.save(tmp_path / "images" / "new.png", image)
    trees.save(tmp_path / "masks" / "new.png", mask)
    assert set(make(tmp_path, **options).names("val")) - {"new"} == val, "a new image moves no other"
    with pytest.raises(DataError, match="leaves split 'val'"):
        make(tmp_path, **{**options, "val_fraction": 1e-12}).names("val")


@given(st.text(min_size=1, max_size=12), st.floats(0.01, 0.98))
def test_a_larger_fraction_keeps_what_was_in_val(name: str, fraction: float) -> None:
    if _in_val(name, fraction):
        assert _in_val(name, fraction + 0.01)


def test_splits_are_those_there(tmp_path: Path) -> None:
    for split in ("validation", "training", "extra"):
        image, mask = trees.pair(0, [0, 1])
        trees.save(tmp_path / split / "i" / "x.png", image)
        trees.save(tmp_path / split / "m" / "x.png", mask)
    dataset = make(tmp_path, images="{split}/i", masks="{split}/m")
    assert dataset.splits == ("training", "validation", "extra")
    with pytest.raises(DataError, match=r"no folder .*train/i") as caught:
        dataset.names("train")
    assert caught.value.hint == "did you mean 'training'?"


def test_pairing_errors_name_the_file(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    (tmp_path / "masks/train/img1.png").unlink()
    with pytest.raises(DataError, match=r"'demo': .*images/train/img1\.jpg: no mask .*masks/train/img1\.\*"):
        make(tmp_path).names("train")
    (tmp_path / "images/train/img1.jpg").unlink()
    (tmp_path / "images/train/img2.jpg").unlink()
    with pytest.raises(DataError, match=r"masks/train/img2\.png: a mask without an image"):
        make(tmp_path).names("train")
    trees.save(tmp_path / "images/val/img0.png", trees.pair(0, [0])[0])
    with pytest.raises(DataError, match="differ only in their extension"):
        make(tmp_path).names("val")
    with pytest.raises(DataError, match="no folder"):
        make(tmp_path / "nowhere").names("train")


def test_bad_files_name_the_file(tmp_path: Path) -> None:
    trees.folder(tmp_path, count=5)
    images, masks = tmp_path / "images/train", tmp_path / "masks/train"
    (masks / "img0.png").write_bytes((masks / "img0.png").read_bytes()[:80])
    (images / "img1.jpg").write_bytes((images / "img1.jpg").read_bytes()[:400])
    (images / "img2.jpg").write_text("not an image")
    trees.save(masks / "img3.png", np.zeros((10, 11), np.uint8))
    mask = trees.pair(4, [0, 1])[1]
    mask[0, :3] = 9
    trees.save(masks / "img4.png", mask)
    dataset = make(tmp_path)
    for index, message in enumerate(
        (
            r"masks/train/img0\.png: corrupt image",
            r"images/train/img1\.jpg: corrupt image",
            r"images/train/img2\.jpg: not an image",
            r"img3\.png: the mask is 11x10, its image .*img3\.jpg is 32x24",
            r"img4\.png: id 9 out of range in 3 of 768 pixels \(expected 0\.\.2\)",
        )
    ):
        with pytest.raises(DataError, match=message):
            dataset.load("train", index)
    assert len(dataset.check()) == 5, "check reports every one and goes on"


def test_large_16_bit_ids_are_out_of_range(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    mask = trees.pair(0, [0, 1])[1].astype(np.uint16)
    mask[0, 0] = 40000
    trees.save(tmp_path / "masks/train/img0.png", mask)
    with pytest.raises(DataError, match="id 40000 out of range in 1 of 768"):
        make(tmp_path).load("train", 0)
    assert make(tmp_path, classes={"a": [0, 40000], "b": 1}).load("train", 0)[1][0, 0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"title": " "}, "`title` is empty"),
        ({"classes": ["a"]}, "1 classes"),
        ({"classes": ["a", "a"]}, "'a' is named twice"),
        ({"classes": {"a": 0, "b": [0, 1]}}, "id 0 belongs to both 'a' and 'b'"),
        ({"classes": {"a": 0, "b": -1}}, "id -1 of class 'b'"),
        ({"classes": {"a": 0, "b": []}}, "class 'b' has no id"),
        ({"classes": [str(i) for i in range(255)]}, "255 classes"),
        ({"ignore": [2]}, "id 2 is ignored, but it is class 'c'"),
        ({"ignore": [[1, 2]]}, r"must be \[red, green, blue\]"),
        ({"colors": {"a": [1, 2, 3]}}, "no color for class 'b'"),
        ({"colors": {"a": [1, 2, 3], "b": [1, 2, 3], "c": [0, 0, 0]}}, "given twice"),
        ({"colors": {"a": [1, 2, 300], "b": [1, 2, 3], "c": [0, 0, 0]}}, "color of 'a'"),
        ({"colors": {"a": [1, 2, 0], "b": [1, 2, 3], "c": [0, 0, 0], "d": [9, 9, 9]}}, "'d', which is no class"),
        ({"images": "images", "masks": "masks"}, "nothing says which images are for training"),
        ({"images": "images"}, "must be in both"),
        ({"val_fraction": 0.2}, "for a single folder"),
        ({"images": "i", "masks": "m", "val_fraction": 1.0}, "between 0 and 1"),
        ({"images": "i", "masks": "m", "lists": "train.txt"}, "needs '{split}'"),
    ],
)
def test_bad_parameters(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, **options)


def test_what_decodes_the_masks_is_in_the_fingerprint(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    prints = {
        make(tmp_path, **options).fingerprint("train")
        for options in ({}, {"ignore": [254]}, {"classes": {"a": 0, "b": 1, "c": [2, 3]}})
    }
    assert len(prints) == 3


@given(st.integers(2, 254))
def test_default_colors_differ(count: int) -> None:
    colors = distinct_colors(count)
    assert len(set(colors)) == count
