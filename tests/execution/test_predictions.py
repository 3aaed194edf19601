"""Kept predictions: which images, and what is on disk."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from lossbench.cli.run import run
from lossbench.data.cache import open_split
from lossbench.execution.predictions import KeptPredictions, PredictionWriter, classes_held, shown_images
from lossbench.execution.spec import KEEP_IMAGES, Spec
from lossbench.execution.suite_run import RunOptions
from lossbench.registry import Registry
from tests.execution.cellfactory import STREETS


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)), st.integers(0, 6))
def test_one_image_of_every_stretch(holds: np.ndarray, count: int) -> None:
    shown = shown_images(holds, count)
    stretches = np.array_split(np.arange(len(holds)), min(count, len(holds))) if count else []
    assert len(shown) == len(stretches)
    frequency = holds.sum(axis=0)
    for index, stretch in zip(shown, stretches, strict=True):
        assert index in stretch
        worth = [sum(1 / frequency[c] for c in np.flatnonzero(holds[i])) for i in stretch]
        assert worth[index - stretch[0]] == pytest.approx(max(worth))


def test_rare_classes_are_worth_more_and_the_first_of_equals_wins() -> None:
    holds = np.zeros((8, 3), bool)
    holds[:, 0] = True
    holds[6, 2] = True
    assert shown_images(holds, 2) == [0, 6]


def test_names_with_dots_and_folders_do_not_collide(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, ["a/frame.1", "a/frame.2"], colors=[(1, 2, 3), (4, 5, 6)])
    for index in (0, 1):
        writer(index, np.full((2, 3), index, np.uint8))
    pictures = [Image.open(tmp_path / "a" / f"frame.{n}.png") for n in (1, 2)]
    assert [np.unique(np.asarray(picture)).tolist() for picture in pictures] == [[0], [1]]
    assert pictures[1].convert("RGB").getpixel((0, 0)) == (4, 5, 6)
    assert len(list(tmp_path.rglob("*.*"))) == 2


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("data")
    return open_split(Registry("dataset").get("streets").build(STREETS, root=root), "val", cache_root=root)


def test_the_classes_an_image_holds(split) -> None:
    holds = classes_held(split)
    assert holds.shape == (6, split.num_classes)
    for index in range(6):
        assert set(np.flatnonzero(holds[index])) <= set(np.unique(split.target(index)))
    assert holds[:, 0].all()


def test_the_index_comes_last_and_an_earlier_try_goes(split, tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "index.json").write_text("old")
    kept = KeptPredictions(tmp_path, split, images=2)
    writer = kept.writer([(0, 0, 0)] * split.num_classes)
    assert writer is not None
    for index in range(6):
        writer(index, split.target(index))
    assert not (tmp_path / "predictions" / "index.json").exists()
    kept.finish("val")
    facts = json.loads((tmp_path / "predictions" / "index.json").read_text())
    assert facts["split"] == "val"
    assert facts["fingerprint"] == split.fingerprint
    assert {f"{name}.png" for name in facts["shown"]} == {p.name for p in (tmp_path / "predictions").glob("*.png")}
    assert len(facts["shown"]) == 2


def test_none_or_all(split, tmp_path: Path) -> None:
    assert KeptPredictions(tmp_path, split, images=0).writer([]) is None
    everything = KeptPredictions(tmp_path, split, images=0, everything=True).writer([(0, 0, 0)])
    assert everything is not None
    for index in range(6):
        everything(index, split.target(index))
    assert len(list((tmp_path / "predictions").glob("*.png"))) == 6


def test_as_many_by_default_wherever_it_is_asked() -> None:
    defaults = [
        inspect.signature(where).parameters[name].default
        for where, name in (
            (run, "keep_images"),
            (RunOptions, "keep_images"),
            (Spec, "keep_images"),
            (KeptPredictions, "images"),
            (shown_images, "count"),
        )
    ]
    assert defaults == [KEEP_IMAGES] * 5
