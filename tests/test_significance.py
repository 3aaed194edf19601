from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.significance import Significance, holm, of_rows, seeds_needed, sign_flip, smallest_p, wilcoxon

numbers = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=2, max_size=8)


@settings(max_examples=60, deadline=None)
@given(numbers)
def test_sign_flip_goes_through_all_patterns(values: list[float]) -> None:
    observed = abs(sum(values))
    patterns = list(itertools.product((-1, 1), repeat=len(values)))
    hits = sum(abs(sum(s * v for s, v in zip(p, values, strict=True))) >= observed - 1e-9 for p in patterns)
    assert sign_flip(values) == pytest.approx(hits / len(patterns))


@pytest.mark.parametrize("seed", range(4))
def test_sign_flip_is_scipys(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.4, 1, 9)
    theirs = scipy.stats.permutation_test(
        (values,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert sign_flip(values) == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("seed", range(4))
def test_wilcoxon_is_scipys(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.4, 1, 10)
    assert wilcoxon(values) == pytest.approx(scipy.stats.wilcoxon(values, method="exact").pvalue)


def test_drawn_patterns_are_near_the_exact_ones_and_never_0() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 17)
    theirs = scipy.stats.permutation_test(
        (values,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert sign_flip(values) == pytest.approx(theirs.pvalue, abs=0.005)
    assert sign_flip([1.0] * 40) == pytest.approx(1 / 100_001)


def test_many_seeds_need_little_memory() -> None:
    """Of 10,000 patterns of 2,000 signs at a time it took 900 MB."""
    import tracemalloc

    values = np.random.default_rng(1).normal(0, 1, 2_000)
    tracemalloc.start()
    sign_flip(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6


def test_nothing_to_test() -> None:
    assert math.isnan(sign_flip([1.0]))
    assert math.isnan(wilcoxon([1.0, math.nan]))
    assert sign_flip([0.0, 0.0]) == 1


def test_holm_by_hand() -> None:
    # 4 * 0.01 = 0.04; 3 * 0.02 = 0.06; 2 * 0.03 = 0.06; 0.5
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([]) == []
    assert holm([0.9, math.nan, 0.8]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_the_p_and_bonferroni(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(p <= a <= min(1, len(ps) * p) + 1e-12 for p, a in zip(ps, adjusted, strict=True))
    order = sorted(range(len(ps)), key=ps.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_what_few_seeds_can_reach() -> None:
    assert [smallest_p(n) for n in (2, 5, 6)] == [0.5, 0.0625, 0.03125]
    for n in range(2, 12):
        assert sign_flip([1.0] * n) == smallest_p(n)
        assert wilcoxon([1.0 + i for i in range(n)]) == smallest_p(n)
    assert seeds_needed() == 6
    for tests in (1, 5, 12, 40):
        n = seeds_needed(tests)
        assert tests * smallest_p(n) <= 0.05 < tests * smallest_p(n - 1)


def test_marks() -> None:
    assert [Significance("t", 0.0, p).mark for p in (0.2, 0.05, 0.01, 0.0005)] == ["", "*", "**", "***"]


def test_pure_noise_marks_a_row_in_few_tables() -> None:
    """The chance of any mark in a table of losses that do nothing stays near 5 %, whatever the number of rows."""
    generator = np.random.default_rng(0)
    tables = [of_rows(list(generator.normal(0, 1, (8, 6))), "t") for _ in range(600)]
    marked = np.mean([any(row.p_holm <= 0.05 for row in rows) for rows in tables])
    assert 0.02 < marked < 0.08
