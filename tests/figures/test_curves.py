from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossbench.figures import curves
from lossbench.figures.make import make_curves
from lossbench.standings import Block

floats = st.floats(-1e6, 1e6) | st.just(math.nan)


@given(st.lists(floats, max_size=30), st.integers(1, 9))
def test_smoothing_is_the_mean_of_the_finite_neighbours(values: list[float], window: int) -> None:
    smoothed = curves.smooth(values, window)
    assert len(smoothed) == len(values)
    # numpy's centred window of an even size reaches one further back.
    window = min(window, max(len(values), 1))
    before, after = window // 2, window - 1 - window // 2
    for place, value in enumerate(values):
        near = [x for x in values[max(0, place - before) : place + after + 1] if math.isfinite(x)]
        if math.isnan(value):
            assert math.isnan(smoothed[place])
        else:
            assert smoothed[place] == pytest.approx(sum(near) / len(near), abs=1e-6 * max(map(abs, near)) + 1e-9)


def test_seeds_that_stop_early_count_as_far_as_they_got() -> None:
    line = curves.over_seeds("x", [([0, 1, 2], np.array([4.0, 2.0, 1.0])), ([0, 1], np.array([2.0, math.nan]))])
    assert line is not None
    assert line.steps.tolist() == [0, 1, 2]
    assert line.mean.tolist() == [3, 2, 1]
    assert line.sd[0] == pytest.approx(math.sqrt(2))
    assert np.isnan(line.sd[1:]).all()


def test_no_value_is_no_line() -> None:
    assert curves.over_seeds("x", [([], np.array([])), ([0], np.array([math.nan]))]) is None


def line(values: list[float]) -> curves.Line:
    array = np.array(values)
    return curves.Line("x", np.arange(len(array), dtype=float), array, 0 * array, 2)


def test_several_losses_are_shown_by_their_own_start() -> None:
    (first, gap, second), what = curves.relative([line([4.0, 2.0]), None, line([1e-8, 2e-8])])
    assert what == "training loss / loss at the start"
    assert first is not None
    assert second is not None
    assert gap is None
    assert first.mean.tolist() == [1, 0.5]
    assert second.mean.tolist() == [1, 2]
    assert curves.relative([line([4.0, 2.0])])[1] == "training loss"
    assert curves.relative([line([-1.0, -2.0]), line([4.0, 2.0])])[1] == "training loss"


def test_a_line_for_each_loss(block: Block) -> None:
    drawing = make_curves(block)
    (axes,) = drawing.figure.axes  # never scored on the way: no second graph
    assert len(axes.lines) == 6
    assert axes.lines[0].get_xdata().tolist() == [1, 200, 400]
    assert drawing.figure.legends[0].get_texts()[0].get_text() == "ce"
    assert drawing.data["miou"] == []
    assert drawing.data["loss"][0]["mean"] == pytest.approx([2.1, 0.9, 0.6])


def test_validation_scores_get_a_graph_of_their_own(block: Block) -> None:
    scored = {"step": [0, 1], "loss": [2.0, 1.0], "eval_step": [1, 2], "eval_miou": [0.25, 0.5]}
    found = curves.lines(block, lambda path: scored)
    figure = curves.draw(found)
    assert len(figure.axes) == 2
    assert figure.axes[1].lines[0].get_ydata().tolist() == [25, 50]
    assert "mIoU (%)" in figure.axes[1].get_ylabel()
    assert len(figure.axes[1].collections) == 6  # bands
