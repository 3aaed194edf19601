from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from lossbench.datasets._pascal_context import CONTEXT_IDS, detail_names
from lossbench.datasets.base import WARNING
from lossbench.datasets.pascal_context import PascalContext
from lossbench.datasets.pascal_context_paper20 import CLASSES as FIRST20
from lossbench.datasets.pascal_context_paper20 import PascalContextPaper20
from lossbench.errors import DataError
from tests.datasets import trees

DEVKIT = Path("VOCdevkit") / "VOC2010"
TRAIN = trees.VOC_NAMES["train"]


def detail(file: Path) -> None:
    """The Detail API's JSON in small: lists of objects, keys in any order, annotations with braces."""
    images = [
        {"file_name": f"{name}.jpg", "phase": split, "image_id": int(name.replace("_", "")), "height": 24}
        for split, names in trees.VOC_NAMES.items()
        for name in names[:2]
    ]
    images.append({"phase": "test", "file_name": "2010_009999.jpg"})
    annotations = [{"segmentation": {"counts": "a{b", "size": [1, 2]}, "category_id": 2}]
    file.write_text(json.dumps({"annos_segmentation": annotations, "images": images, "categories": [{"id": 2}]}))


def test_the_59_are_sorted_and_the_paper_s_20_are_their_first() -> None:
    assert len(CONTEXT_IDS) == 59
    assert list(CONTEXT_IDS.values()) == sorted(CONTEXT_IDS.values())
    assert list(CONTEXT_IDS) == sorted(CONTEXT_IDS)
    assert (FIRST20[0], FIRST20[3], FIRST20[-1], len(FIRST20)) == ("aeroplane", "bedclothes", "cow", 20)


@pytest.mark.parametrize("background", [False, True])
def test_ids_of_a_mat_file(tmp_path: Path, background: bool) -> None:
    dataset = PascalContext(trees.pascal_context(tmp_path), background=background)
    assert dataset.num_classes == 59 + background
    assert dataset.class_names[0] == ("background" if background else "aeroplane")
    assert dataset.names("train") == TRAIN
    raw = loadmat(tmp_path / "trainval" / f"{TRAIN[1]}.mat")["LabelMap"]
    assert {0, 1, 255, 459} <= set(np.unique(raw))
    expected = np.full(raw.shape, 0 if background else 255)
    for index, raw_id in enumerate(CONTEXT_IDS.values()):
        expected[raw == raw_id] = index + background
    image, target = dataset.load("train", 1)
    assert (target == expected).all()
    assert image.shape == (*raw.shape, 3)


@pytest.mark.parametrize("background", [False, True])
def test_both_layouts_hold_the_same(tmp_path: Path, background: bool) -> None:
    mat = PascalContext(trees.pascal_context(tmp_path / "a"), background=background)
    png = PascalContext(trees.pascal_context(tmp_path / "b", labels="png"), background=background)
    for index in range(len(TRAIN)):
        assert (mat.load("train", index)[1] == png.load("train", index)[1]).all()
    _, mask = trees.pair(0, [*range(60), 255])
    trees.save(tmp_path / "b" / DEVKIT / "SegmentationClassContext" / f"{TRAIN[0]}.png", mask)
    target = png.load("train", 0)[1]
    assert (target[mask == 255] == 255).all()
    assert (target[mask == 0] == (0 if background else 255)).all()


@pytest.mark.parametrize("labels", ["mat", "png"])
def test_the_paper_s_20_and_nothing_else(tmp_path: Path, labels: str) -> None:
    root = trees.pascal_context(tmp_path / "pascal_context", labels=labels)
    whole, part = PascalContext(root), PascalContextPaper20(tmp_path / "pascal_context_paper20")
    assert part.class_names == whole.class_names[:20]
    assert part.colors == whole.colors[:20]
    for index in range(len(TRAIN)):
        full, target = whole.load("train", index)[1], part.load("train", index)[1]
        assert (target == np.where(full < 20, full, 255)).all()


def test_images_of_the_voc2010_folder_are_used(tmp_path: Path) -> None:
    root = trees.pascal_context(tmp_path / "pascal_context", images=tmp_path / "voc2010")
    assert not (root / "VOCdevkit").exists()
    assert PascalContext(root).load("val", 0)[0].shape == (*trees.VOC_SIZES[0], 3)


def test_the_variants_are_told_apart_by_the_fingerprint(tmp_path: Path) -> None:
    root = trees.pascal_context(tmp_path)
    variants = [PascalContext(root), PascalContext(root, background=True), PascalContextPaper20(root)]
    assert len({variant.fingerprint("train") for variant in variants}) == 3


def test_which_list_was_read_is_noted(tmp_path: Path) -> None:
    root = trees.pascal_context(tmp_path / "a")
    assert PascalContext(root).notes == ("labels: trainval/*.mat, split list: ImageSets/Main/{train,val}.txt",)
    detail(root / DEVKIT / "trainval_merged.json")
    dataset = PascalContext(root)
    assert dataset.notes == ("labels: trainval/*.mat, split list: trainval_merged.json",)
    assert dataset.names("train") == tuple(sorted(TRAIN[:2]))
    assert dataset.names("val") == tuple(sorted(trees.VOC_NAMES["val"]))
    png = PascalContext(trees.pascal_context(tmp_path / "b", labels="png"))
    assert "SegmentationClassContext/*.png, split list: ImageSets/SegmentationContext/" in png.notes[0]


def test_a_broken_detail_file_is_told(tmp_path: Path) -> None:
    for text in ("{}", '{"images": [{"file_name": "a.jpg"}]}', '"file_name"', ""):
        file = tmp_path / f"{len(text)}.json"
        file.write_text(text)
        with pytest.raises(DataError, match="json: "):
            detail_names(file)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("trainval", r"no labels \(trainval/\*\.mat, or SegmentationClassContext/\*\.png\)"),
        (DEVKIT / "JPEGImages", r"no images \(VOCdevkit/VOC2010/JPEGImages\)"),
        (DEVKIT / "ImageSets", r"no list of images \(ImageSets/Main"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, gone: Path | str, message: str) -> None:
    trees.pascal_context(tmp_path)
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=message) as caught:
        PascalContext(tmp_path).names("train")
    assert "lossbench data get voc2010" in (caught.value.hint or "")


def test_check_tells_bad_mats_and_warns_of_counts(tmp_path: Path) -> None:
    dataset = PascalContext(trees.pascal_context(tmp_path))
    problems = dataset.check()
    assert all(p.startswith(WARNING) for p in problems)
    assert "3 images, the published split has 4998 or 4996" in problems[0]
    first, second, third = (tmp_path / "trainval" / f"{name}.mat" for name in TRAIN)
    first.write_bytes(first.read_bytes()[:150])
    savemat(second, {"Labels": np.zeros((2, 2), np.uint16)})
    savemat(third, {"LabelMap": np.full(trees.VOC_SIZES[2], 460, np.uint16)})
    problems = [p for p in dataset.check() if not p.startswith(WARNING)]
    assert ["cannot be read" in problems[0], "holds no LabelMap" in problems[1]] == [True, True]
    assert "id 460 out of range in 775 of 775 pixels (expected 0..459)" in problems[2]
    assert len(problems) == 3
