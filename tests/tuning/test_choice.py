"""Spaces, sequences, choices: pure functions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossbench.tuning.choice import Curve, Trial, best_so_far, choose, expected_best, score_of
from lossbench.tuning.sampling import halton, radical_inverse, settings
from lossbench.tuning.space import Dimension

LR = Dimension("lr", 1e-4, 1e-2, log=True)
GAMMA = Dimension("gamma", values=(0.5, 1.0, 2.0, 5.0))


def never(setting):
    return None


def test_a_range_in_the_logarithm() -> None:
    assert LR.at(0.0) == 1e-4
    assert LR.at(0.5) == pytest.approx(1e-3)
    assert LR.place(1e-3) == pytest.approx(0.5)
    assert LR.edge(1.1e-4, 8) == "lower"
    assert LR.edge(9.9e-3, 8) == "upper"
    assert LR.edge(1e-3, 8) is None
    assert LR.edge(5e-4, 2) is None, "of two trials each is an outermost one"
    assert GAMMA.edge(5.0, 8) == "upper"


def test_radical_inverse_mirrors_the_digits() -> None:
    assert [radical_inverse(n, 2) for n in range(1, 6)] == [0.5, 0.25, 0.75, 0.125, 0.625]
    assert [radical_inverse(n, 3) for n in range(1, 4)] == pytest.approx([1 / 3, 2 / 3, 1 / 9])


@given(st.integers(0, 1000), st.integers(2, 40))
def test_all_losses_are_tried_at_the_same_learning_rates(seed: int, trials: int) -> None:
    own = {"lr": 0.00212345}  # none of four digits: no trial is dropped for being the same
    plain = settings([LR], own, trials=trials, sampler="halton", seed=seed, score=never)
    both = settings([LR, GAMMA], own | {"gamma": 2.0}, trials=trials, sampler="halton", seed=seed, score=never)
    assert [s["lr"] for s in both] == [s["lr"] for s in plain]
    assert plain[0] == own
    assert len({s["lr"] for s in plain}) == trials


def test_the_sequence_fills_a_range_evenly() -> None:
    places = sorted(point[0] for point in itertools.islice(halton([LR], 3), 64))
    assert max(np.diff(places)) < 2.5 / 64


def test_a_space_of_few_settings_has_few_trials() -> None:
    tried = settings([GAMMA], {"gamma": 2.0}, trials=8, sampler="halton", seed=0, score=never)
    assert sorted(s["gamma"] for s in tried) == [0.5, 1.0, 2.0, 5.0]


@pytest.mark.parametrize("sampler", ["halton", "random", "tpe"])
def test_settings_are_a_function_of_what_is_known(sampler: str) -> None:
    pytest.importorskip("optuna")

    def score(setting):
        return -((math.log10(setting["lr"]) + 3) ** 2)

    made = [settings([LR], {"lr": 5e-3}, trials=9, sampler=sampler, seed=1, score=score) for _ in range(2)]
    assert made[0] == made[1]
    assert len(made[0]) == 9
    assert settings([LR], {"lr": 5e-3}, trials=9, sampler=sampler, seed=2, score=score) != made[0]


def test_a_sequential_search_waits_for_its_scores() -> None:
    pytest.importorskip("optuna")
    known = settings([LR], {"lr": 5e-3}, trials=8, sampler="tpe", seed=0, score=never)
    assert len(known) == 4


# --- choice ---


def trial(number: int, lr: float, score: float | None) -> Trial:
    return Trial(number, {"lr": lr}, score)


def test_the_best_score_wins_and_ties_go_to_the_nearest_setting() -> None:
    trials = [trial(0, 1e-3, 0.5), trial(1, 1e-2, 0.6), trial(2, 2e-3, 0.6), trial(3, 1e-4, 0.6)]
    assert choose([LR], trials).number == 2
    assert choose([LR], [*trials[:3], trial(3, 1e-4, None)]) is None, "of another budget"
    assert choose([LR], []) is None


def test_a_run_that_scored_nothing_counts_as_0() -> None:
    assert score_of([0.4, math.nan]) == 0.2
    assert score_of([0.4, None]) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_expected_best_is_the_mean_over_all_draws(scores: list[float]) -> None:
    expected = expected_best(scores)
    assert expected[0] == pytest.approx(np.mean(scores))
    if len(scores) <= 5:
        for n in (1, 2, 3):
            if n <= len(scores):
                draws = [max(draw) for draw in itertools.product(scores, repeat=n)]
                assert expected[n - 1] == pytest.approx(np.mean(draws), abs=1e-9)
    assert (np.diff(expected) >= -1e-9).all()
    assert best_so_far(scores)[-1] == max(scores)


def test_a_curve_says_where_its_choice_lies() -> None:
    curve = Curve("ce", (LR,), 2, (trial(0, 1e-3, 0.5), trial(1, 1e-2, 0.6)))
    assert curve.complete
    assert curve.chosen.number == 1
    assert curve.edges == ["lr at the upper edge"]
    assert Curve("ce", (LR,), 3, curve.trials).chosen is None
