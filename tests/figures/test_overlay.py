from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lossbench.figures.overlay import marked, prediction_picture, resized, truth_picture

COLORS = ((128, 64, 128), (70, 70, 70), (230, 220, 30))


def test_the_truth_in_its_colours_and_ignored_pixels_as_such() -> None:
    truth = np.array([[0, 1, 2, 255] * 10] * 20, dtype=np.uint8)
    picture = truth_picture(truth, COLORS, 255)
    for index, color in enumerate(COLORS):
        assert (picture[truth == index] == color).all()
    greys = np.unique(picture[truth == 255], axis=0).tolist()
    assert greys == [[190, 190, 190], [255, 255, 255]]  # striped


def test_where_it_is_right_a_prediction_is_drawn_as_the_truth() -> None:
    truth = np.tile(np.repeat(np.array([0, 1, 255], np.uint8), 30), (60, 1))
    prediction = np.where(truth == 255, 2, truth).astype(np.uint8)
    assert np.array_equal(prediction_picture(prediction, truth, COLORS, 255), truth_picture(truth, COLORS, 255))


def test_a_wrong_region_is_outlined_and_hatched_in_its_own_colour() -> None:
    truth = np.zeros((100, 100), np.uint8)
    prediction = truth.copy()
    prediction[30:70, 30:70] = 2
    picture = prediction_picture(prediction, truth, COLORS, 255, line=2)
    assert (picture[prediction == 0] == COLORS[0]).all()
    assert (picture[30:32, 32:68] == 0).all()  # the outline
    inside = picture[34:66, 34:66].reshape(-1, 3)
    share = (inside == COLORS[2]).all(axis=1).mean()
    assert 0.6 < share < 0.9  # its colour, with stripes of another over it
    assert len(np.unique(inside, axis=0)) == 2


def test_what_is_off_by_a_pixel_along_a_border_is_not_marked() -> None:
    wrong = np.zeros((200, 200), bool)
    wrong[:, 100:102] = True
    assert not marked(wrong).any()
    wrong[50:90, 20:60] = True
    assert marked(wrong)[60, 40]
    assert not marked(wrong)[:, 100:102].any()
    assert marked(np.ones((10, 10), bool)).all()


@given(arrays(bool, (40, 40)))
def test_only_what_is_wrong_is_marked(wrong: np.ndarray) -> None:
    assert not (marked(wrong) & ~wrong).any()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_resizing_repeats_pixels(height: int, width: int, factor: int) -> None:
    labels = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    larger = resized(labels, factor * width)
    assert np.array_equal(larger, np.kron(labels, np.ones((factor, factor), np.uint8)))


@pytest.mark.parametrize("line", [1, 3])
def test_light_and_dark_classes_are_hatched_to_be_seen(line: int) -> None:
    truth = np.zeros((80, 80), np.uint8)
    for index, seen in ((1, 1), (2, -1)):
        picture = prediction_picture(np.full_like(truth, index), truth, COLORS, 255, line=line)
        stripes = np.unique(picture.reshape(-1, 3), axis=0).astype(int).sum(axis=1) - sum(COLORS[index])
        assert (stripes * seen).max() > 150
