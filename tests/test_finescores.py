from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossbench import finescores, metrics
from lossbench.records import Record
from tests.factories import make_record

EXTRA = {
    "boundary": [[8, 1, 1], [0, 0, 0], [1, 1, 2]],
    "calibration": {
        "pixels": [0] * 13 + [10, 30],
        "correct": [0] * 13 + [5, 30],
        "confidence": [0] * 13 + [9 * 2**24, 29 * 2**24],
        "nll": 80 * 2**16,
    },
}


def test_figures_by_hand() -> None:
    found = finescores.scores(EXTRA)
    assert found["boundary_miou"] == pytest.approx((8 / 10 + 1 / 4) / 2)  # the absent class is left out
    assert found["ece"] == pytest.approx((abs(5 - 9) + abs(30 - 29)) / 40)
    assert found["nll"] == 2


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"boundary": "nonsense", "calibration": EXTRA["calibration"]},
        {"calibration": {"pixels": [1, 2]}},
        {"calibration": {**EXTRA["calibration"], "pixels": [0] * 15}},
        {"calibration": {**EXTRA["calibration"], "nll": None}},
        {"calibration": []},
        {"calibration": {**EXTRA["calibration"], "correct": [35]}},  # numpy would make 15 of it
        {"calibration": {**EXTRA["calibration"], "confidence": [[0]] * 15}},
        {"calibration": {**EXTRA["calibration"], "correct": [0] * 13 + [15, 30]}},  # more than there are
        {"calibration": {**EXTRA["calibration"], "confidence": [0] * 13 + [11 * 2**24, 0]}},
        {"calibration": {**EXTRA["calibration"], "pixels": [-1, 1, *[0] * 11, 10, 30]}},
        {"calibration": {**EXTRA["calibration"], "nll": -1}},
        {"boundary": [[-8, 1, 1], [0, 0, 0]]},
        {"boundary": [8, 1, 1]},
        {"boundary": [[8, 1, 1], [3, 1]]},
        {"boundary": [[8, 1, 1, 4, 5, 6]]},
        {"boundary": [[8.5, 1, 1]]},
    ],
)
def test_what_makes_no_sense_is_undefined(extra: dict) -> None:
    assert all(math.isnan(value) for value in finescores.scores(extra).values())


def test_boundaries_are_of_all_classes() -> None:
    assert finescores.scores(EXTRA, 3) == finescores.scores(EXTRA)
    assert all(math.isnan(value) for value in finescores.scores(EXTRA, 4).values())


def test_a_record_keeps_the_counts_and_one_without_is_as_before() -> None:
    _, record, _ = make_record()
    assert "extra_counts" not in record.to_json()
    record.extra_counts = EXTRA
    again = Record.from_json(record.to_json())
    assert again.extra_counts == EXTRA
    assert again.id == record.id
    with pytest.raises(Exception, match="extra_counts"):
        Record.from_json(record.to_json().replace('"extra_counts": {', '"extra_counts": 3, "x": {'))


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=60))
def test_the_worst_images(values: list[float]) -> None:
    defined = sorted(value for value in values if not math.isnan(value))
    found = metrics.worst(values)
    if not defined:
        assert math.isnan(found)
        return
    number = max(1, -(-len(defined) // 20))  # ceil(n / 20)
    assert found == pytest.approx(np.mean(defined[:number]))


def test_the_worst_5_percent_of_100_images_are_5() -> None:
    assert metrics.worst(range(100)) == 2


CONFUSION = np.array([[30, 1, 1], [2, 4, 0], [1, 0, 1]])


def sound() -> dict:
    return {
        "boundary": [[8, 1, 1], [2, 1, 2], [1, 0, 1]],
        "calibration": {
            "pixels": [0] * 14 + [40],
            "correct": [0] * 14 + [35],
            "confidence": [0] * 14 + [39 * 2**24],
            "nll": 80 * 2**16,
        },
    }


def test_sound_counts_have_no_problem() -> None:
    assert list(finescores.problems(sound(), CONFUSION)) == []
    assert list(finescores.problems({}, CONFUSION)) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("other",), 1, "'other'"),
        (("boundary", 0), [40, 0, 0], "more pixels on its boundary"),
        (("boundary", 0), [1, 2], "3 x 3 integers"),
        (("boundary", 1), [1, 2, -3], "3 x 3 integers"),
        (("boundary",), None, "3 x 3 integers"),
        (("calibration",), [], "calibration must hold"),
        (("calibration", "nll"), 1.5, "calibration must hold"),
        (("calibration", "pixels", 3), 1, "not as many"),
        (("calibration", "correct", 14), 34, "not as many"),
        (("calibration", "confidence", 14), 20 * 2**24, "do not lie within"),
        (("calibration", "confidence", 14), 41 * 2**24, "do not lie within"),
    ],
)
def test_what_cannot_be_is_found(path: tuple, value: object, said: str) -> None:
    extra: dict = sound()
    at = extra
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    assert any(said in message for message in finescores.problems(extra, CONFUSION))


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=4)))
def test_nonsense_is_a_problem_and_no_crash(value: object) -> None:
    for extra in ({"boundary": value}, {"calibration": value}, {"calibration": {"pixels": value}}):
        assert list(finescores.problems(extra, CONFUSION))
        assert all(math.isnan(score) for score in finescores.scores(extra, 3).values())
