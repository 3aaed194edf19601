"""Tests over paired seeds that assume no distribution, the correction for many of them, and what they can reach at all.

Pure functions of numbers; scipy is imported where a test needs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Test = Literal["t", "permutation", "wilcoxon"]
TESTS: tuple[Test, ...] = ("t", "permutation", "wilcoxon")
#: Level of a test, and of a whole table after Holm's correction.
ALPHA = 0.05
#: Up to so many differences all 2^n patterns of signs are gone through; beyond, this many are drawn.
_EXACT_UP_TO = 16
_DRAWN = 100_000
#: Bytes of signs held at a time.
_CHUNK_BYTES = 2**25


def sign_flip(differences: Iterable[float]) -> float:
    """p of the two-sided paired permutation test that the differences are symmetric around 0; NaN when n < 2.

    Under the null hypothesis a difference has either sign with equal chance, so p is the share of the 2^n patterns of
    signs whose |mean| is at least the one observed (Fisher 1935; Good 2005, section 3.6). Exact up to 16 differences;
    beyond, (1 + hits) / (1 + drawn) over 100,000 patterns of a fixed seed (Phipson & Smyth 2010): never 0.
    """
    values = _defined(differences)
    n = len(values)
    if n < 2:
        return math.nan
    observed = abs(float(values.sum()))
    tolerance = 1e-12 * float(np.abs(values).sum())  # equal patterns may be added up in another order
    if n <= _EXACT_UP_TO:
        # The first sign is fixed: a pattern and its negative have the same |sum|.
        patterns = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n - 1)) & 1
        sums = values[0] + (1 - 2 * patterns) @ values[1:]
        return float(np.mean(np.abs(sums) >= observed - tolerance))
    generator = np.random.default_rng(0)
    hits = 0
    size = max(1, min(10_000, _CHUNK_BYTES // (8 * n)))
    for start in range(0, _DRAWN, size):
        signs = generator.integers(0, 2, (min(size, _DRAWN - start), n), dtype=np.int8) * 2.0 - 1
        hits += int(np.count_nonzero(np.abs(signs @ values) >= observed - tolerance))
    return (1 + hits) / (1 + _DRAWN)


def wilcoxon(differences: Iterable[float]) -> float:
    """p of the two-sided Wilcoxon signed-rank test (Wilcoxon 1945); NaN when n < 2.

    Exact: the permutation distribution of the signed ranks, ties at their mean rank, differences of 0 ranked and then
    left out of the sum (Pratt 1959).
    """
    values = _defined(differences)
    if len(values) < 2:
        return math.nan
    from scipy.stats import rankdata

    return sign_flip(rankdata(np.abs(values)) * np.sign(values))


def _defined(differences: Iterable[float]) -> NDArray[np.float64]:
    values = np.asarray(list(differences), dtype=np.float64)
    return values[~np.isnan(values)]


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given: reject where one is at most alpha, and the chance of any false rejection
    among them is at most alpha (Holm 1979). NaN stays NaN and counts for no test."""
    order = sorted((place for place, p in enumerate(ps) if not math.isnan(p)), key=lambda place: ps[place])
    adjusted = [math.nan] * len(ps)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted


def smallest_p(n: int) -> float:
    """The smallest p that a sign-flip or signed-rank test can give with n pairs: 2 / 2^n, all of one sign."""
    return 2.0 ** (1 - n)


def seeds_needed(tests: int = 1, alpha: float = ALPHA) -> int:
    """The fewest pairs with which a sign-flip or signed-rank test can reach `alpha`, after Holm over `tests` rows."""
    return 1 + math.ceil(math.log2(tests / alpha) - 1e-12)


@dataclass(frozen=True)
class Significance:
    """The test of a row: its p, and p after Holm's correction over the rows of its block that were tested."""

    test: Test
    p: float
    p_holm: float

    @property
    def mark(self) -> str:
        """ "*" up to 0.05, "**" up to 0.01, "***" up to 0.001, of the corrected p; else nothing."""
        return "*" * sum(self.p_holm <= level for level in (0.05, 0.01, 0.001))


def of_rows(differences: Sequence[Sequence[float] | None], test: Test) -> list[Significance | None]:
    """Of each row of a block, in order, by its differences per seed; None where there are fewer than two, or where the
    row is the reference (None)."""
    ps = [math.nan if values is None else p_of(values, test) for values in differences]
    return [
        None if math.isnan(p) else Significance(test, p, adjusted) for p, adjusted in zip(ps, holm(ps), strict=True)
    ]


def p_of(differences: Sequence[float], test: Test) -> float:
    """p of a row's differences by one of TESTS."""
    if test == "permutation":
        return sign_flip(differences)
    if test == "wilcoxon":
        return wilcoxon(differences)
    from lossbench.equivalence import t_test

    return t_test(differences)
