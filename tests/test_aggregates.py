from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.aggregates import (
    _chances,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    resampled,
)


def test_interquartile_mean_is_scipys_trimmed_mean() -> None:
    values = np.random.default_rng(0).normal(size=(5, 24))
    assert interquartile_mean(values, np.ones(24)) == pytest.approx(scipy.stats.trim_mean(values, 0.25, axis=1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 1000))
def test_blocks_weigh_alike_whatever_their_seeds(sizes: list[int], seed: int) -> None:
    """A run of weight 1 / S is as many copies of it as make all blocks equally long."""
    generator = np.random.default_rng(seed)
    blocks = [generator.normal(100, 5, size) for size in sizes]
    length = 4 * math.lcm(*sizes)
    copies = np.concatenate([np.repeat(block, length // len(block)) for block in blocks])
    weights = np.concatenate([np.full(size, 1 / size) for size in sizes])
    found = interquartile_mean(np.concatenate(blocks), weights)
    assert found == pytest.approx(scipy.stats.trim_mean(copies, 0.25))


def test_a_block_of_many_seeds_does_not_outvote_the_others() -> None:
    relative = [np.full((12, 2), 100.0), np.array([[110.0, 100.0]] * 3), np.array([[110.0, 100.0]] * 3)]
    (iqm, _), _ = resampled(relative, 1)
    assert iqm.value == pytest.approx((110 * 5 / 12 + 100 / 12) / 0.5)  # 1/3 at 100, 2/3 at 110; pooled: 100


def test_probability_of_improvement_is_mann_whitneys() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = generator.integers(0, 5, 7).astype(float), generator.integers(0, 5, 4).astype(float)
    u = scipy.stats.mannwhitneyu(ours, theirs).statistic
    assert probability_of_improvement(ours, theirs) == pytest.approx(u / 28)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(0, 1000))
def test_chances_of_drawn_runs_are_those_of_all_pairs(seeds: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    ours, theirs = generator.integers(0, 4, (2, seeds)).astype(float)
    drawn = generator.integers(0, seeds, (5, seeds))
    weights = np.stack([np.bincount(row, minlength=seeds) for row in drawn]) / seeds
    expected = [np.mean([(a > b) + (a == b) / 2 for a in ours[row] for b in theirs[row]]) for row in drawn]
    assert _chances(ours, theirs, weights, weights) == pytest.approx(expected)


def test_the_profile_counts_runs_above_each_level() -> None:
    relative = [np.array([[90.0, 100.0], [110.0, 100.0]]), np.array([[105.0, 95.0]])]
    profile = performance_profile(relative, np.array([89.0, 99.0, 100.0, 104.0]))
    assert profile.tolist() == [[1.0, 0.75, 0.75, 0.75], [1.0, 0.5, 0.0, 0.0]]


def test_a_run_that_scored_nothing_is_below_all() -> None:
    relative = [np.array([[-math.inf, 100.0], [110.0, 100.0]])]
    (ours, _), (chance, _) = resampled(relative, 1)
    assert math.isnan(ours.value)
    assert ours.low is None
    assert chance.value == 0.5
    assert performance_profile(relative, np.array([0.0]))[0] == 0.5


def test_many_seeds_need_little_memory() -> None:
    """All pairs of 6,000 runs are 288 MB."""
    import tracemalloc

    relative = [np.random.default_rng(0).normal(100, 3, (6_000, 2))]
    tracemalloc.start()
    resampled(relative, 1)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
