"""statistics.py against scipy and hand-worked numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lossbench.statistics import describe, median, paired_difference, paired_ratio, t_quantile


def test_describe():
    spread = describe([1.0, 2.0, 4.0])
    assert (spread.mean, spread.n) == (pytest.approx(7 / 3), 3)
    assert spread.sd == pytest.approx(np.std([1, 2, 4], ddof=1))


def test_one_value_has_no_spread_and_none_no_mean():
    assert describe([3.0]).sd is None
    assert describe([3.0]).mean == 3.0
    assert describe([]).n == 0
    assert math.isnan(describe([math.nan]).mean)


def test_nan_is_left_out():
    assert describe([1.0, math.nan, 3.0]) == describe([1.0, 3.0])


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_interval_is_that_of_the_paired_t_test(n, confidence):
    rng = np.random.default_rng(n)
    ours, reference = rng.normal(60, 3, n), rng.normal(59, 3, n)
    made = paired_difference(dict(enumerate(ours)), dict(enumerate(reference)), confidence)
    expected = stats.ttest_rel(ours, reference).confidence_interval(confidence)
    assert made is not None
    assert made.interval == pytest.approx((expected.low, expected.high))
    assert made.mean == pytest.approx((ours - reference).mean())


def test_only_common_seeds_are_paired():
    made = paired_difference({0: 5.0, 1: 7.0, 9: 100.0}, {1: 4.0, 0: 3.0, 4: -100.0, 9: math.nan})
    assert made is not None
    assert (made.seeds, made.n, made.mean) == ((0, 1), 2, 2.5)


def test_one_common_seed_has_a_difference_but_no_interval():
    made = paired_difference({0: 5.0}, {0: 3.0, 1: 2.0})
    assert made is not None
    assert (made.mean, made.sd, made.interval) == (2.0, None, None)


def test_no_common_seed_is_none():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert paired_ratio({0: 1.0}, {1: 1.0}) is None


def test_identical_runs_differ_by_exactly_nothing():
    made = paired_difference({0: 5.0, 1: 6.0}, {0: 5.0, 1: 6.0})
    assert made is not None
    assert (made.mean, made.sd, made.half_width) == (0.0, 0.0, 0.0)


def test_quantile():
    assert t_quantile(1) == pytest.approx(12.706, abs=1e-3)
    assert t_quantile(10, 0.9) == pytest.approx(stats.t.ppf(0.95, 10))


def test_ratio_is_paired_by_seed():
    # the machine slowed down from seed 0 to seed 1: the ratio does not notice
    assert paired_ratio({0: 120.0, 1: 240.0}, {0: 100.0, 1: 200.0}) == pytest.approx(1.2)
    assert paired_ratio({0: 120.0}, {0: 0.0}) is None


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_the_t_quantile_is_scipys(confidence):
    from scipy.special import stdtrit

    for degrees in (*range(1, 40), 99, 100, 1388, 5001):
        assert t_quantile(degrees, confidence) == pytest.approx(stdtrit(degrees, (1 + confidence) / 2), rel=1e-12)


def test_the_median_is_numpys():
    rng = np.random.default_rng(0)
    for size in range(1, 30):
        values = rng.normal(size=size)
        assert median(values) == np.median(values)
    assert math.isnan(median(np.array([])))
