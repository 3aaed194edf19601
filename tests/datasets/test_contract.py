"""What every registered dataset must do; a new plugin is covered by being dropped in its folder."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from lossbench.datasets.base import IGNORE_INDEX, SegmentationDataset
from lossbench.errors import DataError
from lossbench.registry import Registry
from tests.datasets import trees

NAMES = Registry("dataset").names()


def test_the_three_of_the_first_release_are_there() -> None:
    assert {"camvid", "folder", "streets"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_static(name: str) -> None:
    assert Registry("dataset").get(name).static_signature is not None, "listing must not import the plugin"


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_as_promised(name: str, tmp_path: Path) -> None:
    dataset = trees.build(name, tmp_path)
    assert isinstance(dataset, SegmentationDataset)
    assert dataset.licence
    assert dataset.how_to_get
    assert len(dataset.colors) == dataset.num_classes == len(set(dataset.class_names)) >= 2
    assert all(len(color) == 3 and all(0 <= v <= 255 for v in color) for color in dataset.colors)
    assert len(set(dataset.colors)) == dataset.num_classes, "colors tell the classes apart"
    for split in dataset.splits:
        names = dataset.names(split)
        assert len(names) == len(set(names)) > 0
        for index in range(len(names)):
            image, target = dataset.load(split, index)
            assert image.dtype == target.dtype == np.uint8
            assert image.shape == (*target.shape, 3)
            assert ((target < dataset.num_classes) | (target == dataset.ignore_index)).all()
        again = dataset.load(split, 0)
        assert all((a == b).all() for a, b in zip(again, dataset.load(split, 0), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_split_is_a_data_error(name: str, tmp_path: Path) -> None:
    dataset = trees.build(name, tmp_path)
    for call in (dataset.names, dataset.files, dataset.fingerprint):
        with pytest.raises(DataError):
            call("nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_fingerprint_tells_splits_apart_and_is_stable(name: str, tmp_path: Path) -> None:
    dataset = trees.build(name, tmp_path)
    assert dataset.fingerprint("train") == dataset.fingerprint("train") != dataset.fingerprint("val")
    assert all(file.is_file() for file in dataset.files("train"))


@pytest.mark.parametrize("name", NAMES)
def test_pickle_round_trip(name: str, tmp_path: Path) -> None:
    dataset = trees.build(name, tmp_path)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint("train") == dataset.fingerprint("train")
    assert (copy.load("train", 0)[1] == dataset.load("train", 0)[1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_ignore_index_is_no_class(name: str, tmp_path: Path) -> None:
    dataset = trees.build(name, tmp_path)
    assert dataset.ignore_index == IGNORE_INDEX >= dataset.num_classes
