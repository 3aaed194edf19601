"""equivalence.py against scipy's own tests, closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lossbench import equivalence
from lossbench.equivalence import ALPHA, compare, detectable, sensitivity, t_test, tost
from lossbench.statistics import Paired, paired_difference

numbers = st.floats(-5, 5).map(lambda x: round(x, 3))
samples = st.lists(numbers, min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6)


@given(samples)
def test_the_t_test_is_scipys(values):
    expected = stats.ttest_1samp(values, 0).pvalue
    assert t_test(values) == pytest.approx(expected, rel=1e-9)


@given(samples, st.floats(0.01, 5))
def test_tost_is_the_larger_of_scipys_one_sided_tests(values, margin):
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert tost(values, margin) == pytest.approx(max(above, below), rel=1e-9)


@given(samples, st.floats(0.01, 5), st.sampled_from([0.01, 0.05, 0.1, 0.3]))
def test_tost_rejects_where_the_interval_lies_within_the_margin(values, margin, alpha):
    interval = stats.ttest_1samp(values, 0).confidence_interval(1 - 2 * alpha)
    within = -margin <= interval.low and interval.high <= margin
    p = tost(values, margin)
    assert (p <= alpha) == within or p == pytest.approx(alpha, rel=1e-9)


@given(samples, st.floats(0.01, 5))
def test_tost_knows_no_sign_and_a_wider_margin_is_easier(values, margin):
    assert tost(values, margin) == tost([-value for value in values], margin)
    assert tost(values, 2 * margin) <= tost(values, margin)


def test_closed_forms():
    """With two differences t has one degree of freedom: a Cauchy variable."""
    mean, error = 0.2, 0.1  # of 0.1 and 0.3
    assert t_test([0.1, 0.3]) == pytest.approx(1 - 2 / math.pi * math.atan(mean / error))
    assert tost([0.1, 0.3], 0.5) == pytest.approx(0.5 - math.atan((0.5 - mean) / error) / math.pi)
    assert tost([0.1, 0.3], 0.2) == pytest.approx(0.5)


def test_one_difference_tests_nothing():
    for values in ([], [0.1], [0.1, math.nan]):
        assert math.isnan(t_test(values))
        assert math.isnan(tost(values, 0.3))
    assert math.isnan(detectable(1.0, 1))
    assert math.isnan(detectable(math.nan, 5))


def test_differences_without_spread():
    assert (t_test([0.0, 0.0]), t_test([0.5, 0.5])) == (1, 0)
    assert (tost([0.0, 0.0], 0.3), tost([0.5, 0.5], 0.3)) == (0, 1)
    assert detectable(0.0, 5) == 0


def test_tost_claims_too_much_in_alpha_of_the_experiments_at_most():
    rng = np.random.default_rng(0)
    trials = 4000
    claimed = sum(tost(row, 0.3) <= ALPHA for row in rng.normal(0.3, 0.1, (trials, 6)))
    assert claimed / trials == pytest.approx(ALPHA, abs=4 * math.sqrt(ALPHA * (1 - ALPHA) / trials))


@pytest.mark.parametrize(("n", "power", "alpha"), [(2, 0.8, 0.05), (3, 0.9, 0.1), (6, 0.8, 0.05), (20, 0.5, 0.01)])
def test_a_detectable_difference_is_found_as_often_as_said(n, power, alpha):
    rng = np.random.default_rng(n)
    trials, sd = 40_000, 0.7
    drawn = rng.normal(detectable(sd, n, power, alpha), sd, (trials, n))
    t = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / math.sqrt(n))
    found = (np.abs(t) > stats.t.ppf(1 - alpha / 2, n - 1)).mean()
    assert found == pytest.approx(power, abs=4 * math.sqrt(power * (1 - power) / trials))


@pytest.mark.parametrize("n", [2, 3, 6, 12, 40])
def test_the_noncentral_t_says_the_same(n):
    shift = detectable(2.0, n) / 2.0 * math.sqrt(n)
    critical = stats.t.ppf(0.975, n - 1)
    tails = np.nan_to_num(stats.nct.cdf(-critical, n - 1, shift))  # NaN where it is nothing
    assert stats.nct.sf(critical, n - 1, shift) + tails == pytest.approx(0.8, abs=1e-9)


def test_with_many_seeds_it_is_the_normal_approximation():
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.4 / math.sqrt(5000)
    assert detectable(0.4, 5000) == pytest.approx(expected, rel=1e-3)


@given(st.integers(2, 60), st.floats(0.01, 10))
def test_it_grows_with_the_spread_and_shrinks_with_seeds(n, sd):
    assert detectable(2 * sd, n) == pytest.approx(2 * detectable(sd, n))
    assert detectable(sd, n + 1) < detectable(sd, n)


def paired(*differences: float) -> Paired:
    made = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((-0.02, 0.01, 0.03, -0.01), "same"),
        ((0.10, 0.11, 0.12, 0.10), "same, better"),
        ((-0.10, -0.11, -0.12, -0.10), "same, worse"),
        ((2.0, 2.1, 2.2), "better"),
        ((-2.0, -2.1, -2.2), "worse"),
        ((-1.0, 2.0, 0.5), "open"),
        ((0.0, 0.0), "same"),
    ],
)
def test_verdicts(differences, verdict):
    tested = compare(paired(*differences), 0.3)
    assert tested is not None
    assert tested.verdict == verdict
    assert tested.p_difference == pytest.approx(t_test(differences))
    assert tested.p_equivalence == pytest.approx(tost(differences, 0.3))


@given(samples)
def test_better_and_worse_are_what_the_interval_says(values):
    made = paired(*values)
    assert made.interval is not None
    low, high = made.interval
    tested = compare(made, 0.3)
    assert tested is not None
    said = tested.verdict.rpartition(" ")[2]
    if tested.p_difference != pytest.approx(ALPHA, rel=1e-6):
        assert (said == "better", said == "worse") == (low > 0, high < 0)


def test_nothing_to_compare():
    assert compare(None, 0.3) is None
    assert compare(paired(0.4), 0.3) is None


def test_sensitivity_is_of_the_commonest_number_of_seeds():
    made = sensitivity([paired(0.0, 1.0, 2.0), paired(0.0, 2.0, 4.0), paired(0.0, 9.0), paired(0.1)])
    assert made is not None
    assert (made.n, made.sd) == (3, 1.5)
    assert made.detectable == detectable(1.5, 3)
    assert sensitivity([paired(0.1)]) is None
    still = paired(0.0, 0.0, 0.0)
    assert sensitivity([still, still, still, paired(0.0, 1.0, 2.0)]).sd == 1, "equal to the reference"
    assert sensitivity([still]).detectable == 0
    spread = sensitivity([paired(0.0, 1.0, 2.0), paired(0.0, 1.0, 2.0), paired(0.0, 3.0, 6.0)])
    assert spread.worst == pytest.approx(3 * spread.detectable)
    assert sensitivity([]) is None


@pytest.mark.parametrize("degrees", [1, 2, 5, 29, 30, 31])
def test_the_kept_constants_are_those_that_are_solved_for(degrees):
    kept = detectable(1.0, degrees + 1) * math.sqrt(degrees + 1)
    assert kept == pytest.approx(equivalence._solved(degrees, 0.8, 0.05), rel=1e-10)
