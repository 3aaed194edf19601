"""diagnosis.py: what losses logged, over seeds; against hand-worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossbench.diagnosis import at_points, class_means, diagnose, is_per_class, log_points, of_row
from lossbench.leaderboard import build
from lossbench.readmany import read_record
from lossbench.store import Store, StoredRecord
from tests.factories import CLASSES, make_record

C = len(CLASSES)


def records_of(*diagnostics, steps=(0, 10, 20), loss="cdfl"):
    made = []
    for seed, told in enumerate(diagnostics):
        _, record, _ = make_record(loss=loss, seed=seed)
        record.diagnostics = told
        record.curve = {"step": list(steps)}
        made.append(record)
    return made


def told_of(*diagnostics, **options):
    return of_row(None, records_of(*diagnostics, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "places"),
    [
        ((), []),
        ((0,), [0, 0, 0]),
        ((0, 9), [0, 0, 1]),
        ((0, 10, 20), [0, 1, 2]),
        ((0, 1, 2, 3, 100), [0, 3, 4]),  # the middle of the steps, not of the points
        ((0, 10, 60, 100), [0, 2, 3]),
    ],
)
def test_log_points(steps, places):
    assert log_points(steps) == places


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30, unique=True).map(sorted))
def test_no_log_point_is_nearer_to_the_middle(steps):
    first, middle, last = log_points(steps)
    assert (first, last) == (0, len(steps) - 1)
    half = (steps[0] + steps[-1]) / 2
    assert abs(steps[middle] - half) == min(abs(step - half) for step in steps)


def test_scalars_are_described_over_seeds_at_three_points():
    told = told_of({"x": [1.0, 2.0, 3.0]}, {"x": [3.0, 2.0, 7.0]})
    assert [(point.mean, point.n) for point in told.scalars["x"]] == [(2, 2), (2, 2), (5, 2)]
    assert told.scalars["x"][2].sd == pytest.approx(np.std([3, 7], ddof=1))
    assert told.steps == (frozenset({0}), frozenset({10}), frozenset({20}))
    assert told.classes == {}


def test_values_per_class_are_means_over_a_run_and_then_over_seeds():
    ours = {"u": [[1.0] * C, [3.0] * C], "class_steps": [0, 20]}
    ours["u"][1][2] = None  # a batch without the class
    theirs = {"u": [[4.0] * C, [4.0] * C], "class_steps": [0, 20]}
    told = told_of(ours, theirs)
    assert [spread.mean for spread in told.classes["u"]] == [2.5 if index == 2 else 3 for index in range(C)]
    assert told.scalars == {}
    assert told.class_points == {2}


def test_what_was_undefined_is_left_out():
    told = told_of({"x": [None, 2.0, 3.0]}, {"x": [1.0, 2.0, None]})
    assert [(point.mean, point.n) for point in told.scalars["x"]] == [(1, 1), (2, 2), (3, 1)]


def test_a_diagnostic_that_some_seeds_lack():
    told = told_of({"x": [1.0, 2.0, 3.0]}, {})
    assert [(point.mean, point.n) for point in told.scalars["x"]] == [(1, 1), (2, 1), (3, 1)]


def test_a_series_of_unknown_steps_is_not_read():
    assert all(math.isnan(value) for value in at_points([1.0, 2.0], [0, 1, 2]))
    assert all(math.isnan(value) for value in at_points([1.0], []))
    assert at_points([1.0, 2.0, None], [0, 1, 2])[:2] == [1.0, 2.0]


def test_values_of_another_number_of_classes_are_not_read():
    assert np.isnan(class_means([[1.0, 2.0]], 3)).all()
    assert told_of({"u": [[1.0, 2.0]], "class_steps": [0]}).classes == {}


@pytest.mark.parametrize("series", [None, 3.0, "text", {"a": 1}, [], [None]])
def test_anything_else_is_no_diagnostic_per_class(series):
    assert not is_per_class(series)
    told = told_of({"x": series})
    assert told.classes == {}
    assert all(math.isnan(point.mean) for points in told.scalars.values() for point in points)


def test_a_whole_block(tmp_path):
    store = Store(tmp_path)
    for loss in ("ce", "cdfl", "mine"):
        for seed in (0, 1):
            cell, record, per_image = make_record(loss=loss, seed=seed)
            if loss != "ce":
                name = "own" if loss == "mine" else "u"
                record.diagnostics = {f"{name}_mean": [1.0, math.nan, 3.0]}
                record.diagnostics |= {f"{name}_class": [[float(seed)] * C], "class_steps": [400]}
            store.write(cell, record, per_image, [f"image_{i}" for i in range(len(per_image))])
    (block,) = build(store.read_all()[0], sort="loss")
    found = diagnose(block, lambda path: read_record(tmp_path / path))
    assert [told.row.label for told in found.told] == ["cdfl", "mine"]
    assert found.silent == ["ce"]
    assert (found.scalars, found.classes) == (["u_mean", "own_mean"], ["u_class", "own_class"])
    assert math.isnan(found.told[0].scalars["u_mean"][1].mean)
    assert found.told[0].classes["u_class"][0].mean == 0.5


def test_the_order_of_records_does_not_matter():
    made = records_of({"x": [1.0, 2.0, 3.0]}, {"x": [3.0, 5.0, 7.0]})
    assert of_row(None, made).scalars == of_row(None, made[::-1]).scalars  # type: ignore[arg-type]


def test_stored_records_are_found_where_their_files_are(tmp_path):
    """`build` of records in memory keeps their own paths."""
    _, record, _ = make_record()
    (block,) = build([StoredRecord(record, tmp_path / "a.json")])
    seen = []
    diagnose(block, lambda path: seen.append(path) or record)  # type: ignore[func-returns-value]
    assert seen == [tmp_path / "a.json"]
