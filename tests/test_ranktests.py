from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench import ranktests
from lossbench.ranktests import critical_difference, friedman, ranks_of


def enumerated(ranks: np.ndarray) -> float:
    """By plain loops over every permutation of every block, with scipy's statistic where it has one."""

    def statistic(rows) -> float:
        return sum((sum(column) - len(rows) * (len(column_of) + 1) / 2) ** 2 for column in zip(*rows, strict=True))

    column_of = ranks[0]
    observed = statistic(ranks.tolist())
    every = list(itertools.product(*(itertools.permutations(row) for row in ranks.tolist())))
    return sum(statistic(rows) >= observed - 1e-9 for rows in every) / len(every)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([(2, 3), (3, 3), (4, 3), (2, 4), (3, 4)]), st.integers(0, 10_000), st.booleans())
def test_p_is_that_of_all_permutations(shape: tuple[int, int], seed: int, ties: bool) -> None:
    generator = np.random.default_rng(seed)
    means = generator.integers(0, 4, shape).astype(float) if ties else generator.normal(50, 2, shape)
    ranks = ranks_of(means)
    found = friedman(ranks)
    assert found.drawn is None
    assert found.p == pytest.approx(enumerated(ranks))


def test_the_statistic_orders_as_scipys() -> None:
    """Ties within blocks stay as they are under permutation, so Friedman's correction for them is a constant."""
    generator = np.random.default_rng(0)
    ranks = ranks_of(generator.integers(0, 5, (4, 5)).astype(float))
    permuted = [generator.permuted(ranks, axis=1) for _ in range(50)]
    ours = [int(ranktests._spread((2 * each).sum(axis=0)[None].astype(int))[0]) for each in permuted]
    theirs = [scipy.stats.friedmanchisquare(*each.T).statistic for each in permuted]
    assert scipy.stats.spearmanr(ours, theirs).statistic == pytest.approx(1)


def test_agreement_of_few_blocks_is_not_certainty() -> None:
    # The second block agrees with the first by chance one time in 3!.
    assert friedman(np.tile([1.0, 2, 3], (2, 1))).p == pytest.approx(1 / 6)
    assert friedman(np.tile([1.0, 2, 3, 4], (3, 1))).p == pytest.approx(1 / 24**2)
    many = friedman(np.tile(np.arange(1.0, 15), (5, 1)))
    assert (many.p, many.drawn) == (1 / 20_000, 19_999)


def test_nothing_to_tell() -> None:
    assert friedman(np.full((5, 4), 2.5)).p == pytest.approx(1)
    assert friedman(np.array([[1.0, 2, 3]])) is None
    assert friedman(np.array([[1.0, 2], [2, 1]])) is None


def test_drawn_permutations_are_near_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = ranks_of(np.random.default_rng(8).normal(50, 2, (4, 4)) + np.array([0, 1.0, 2, 0]))
    exact = friedman(ranks)
    monkeypatch.setattr(ranktests, "_MOST_EXACT", 1)
    monkeypatch.setattr(ranktests, "_CHUNK", 4000)  # in parts
    drawn = friedman(ranks)
    assert drawn.drawn == 19_999
    assert drawn.p == pytest.approx(exact.p, abs=4 * math.sqrt(exact.p * (1 - exact.p) / 19_999))
    assert drawn == friedman(ranks)


@pytest.mark.parametrize("shape", [(2, 3), (3, 4), (4, 6), (3, 9)])
def test_losses_that_do_nothing_are_told_apart_at_most_as_often_as_said(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    ps = np.array([friedman(ranks_of(generator.normal(50, 2, shape)), drawn=199).p for _ in range(400)])
    for level in (0.01, 0.05, 0.2):
        assert np.mean(ps <= level) <= level + 3 * math.sqrt(level * (1 - level) / len(ps))


def test_many_blocks_are_near_the_chi_squared_approximation() -> None:
    means = np.random.default_rng(5).normal(50, 2, (40, 5)) + np.array([0, 0, 0, 0.5, 1])
    expected = scipy.stats.friedmanchisquare(*np.round(means, 2).T).pvalue
    assert friedman(ranks_of(means)).p == pytest.approx(expected, abs=0.01)


def test_ranks_are_of_what_is_printed_and_nothing_is_last() -> None:
    assert ranks_of(np.array([[50.001, 50.002, -math.inf, 60]])).tolist() == [[2.5, 2.5, 4, 1]]


def test_critical_difference_is_that_of_demsars_table() -> None:
    # Demšar 2006, table 5a: q at 0.05 for 4 and 10 classifiers; his example of 4 over 14 data sets has 1.25.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    for losses, q in ((2, 1.960), (4, 2.569), (10, 3.164)):
        assert critical_difference(losses, 1) / math.sqrt(losses * (losses + 1) / 6) == pytest.approx(q, abs=2e-3)
