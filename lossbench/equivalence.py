"""Is a difference zero, is it too small to matter, how small a one would have been seen? Tests on paired differences.

That a difference "is not significant" says nothing of the two losses being equal: few seeds never find anything. So
equality is tested as a claim of its own, against a margin named before (Schuirmann, 1987, "A comparison of the two
one-sided tests procedure and the power approach ...", J. Pharmacokinet. Biopharm. 15). Pure functions of numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lossbench.statistics import Paired, describe, median

#: Level of each test: how often it may claim what is not so.
ALPHA = 0.05
#: Share of the experiments in which a detectable difference is found.
POWER = 0.8

#: `_noncentrality` at POWER and ALPHA of 1, 2, ... degrees of freedom: every leaderboard needs it.
_KNOWN = (
    16.334008869920996, 5.653489266197126, 4.255898686515382, 3.7610595538250187, 3.513902729171092,
    3.3668948970850243, 3.2697598403875627, 3.200919648650867, 3.149632886450618, 3.1099681015776217,
    3.078388675702222, 3.0526574670540905, 3.031291279355924, 3.0132684557533707, 2.9978625780542196,
    2.984543148657844, 2.9729137922548254, 2.9626724364182633, 2.953584869819055, 2.9454667170541793,
    2.938170864363527, 2.93157850677926, 2.9255926564330745, 2.920133357750455, 2.915134108218706,
    2.9105391448221116, 2.906301361469703, 2.902380692703437, 2.898742846324958, 2.89535830015331,
)  # fmt: skip

# scipy is imported inside: it takes longer than a leaderboard, and few ask for tests.


def t_test(differences: Iterable[float]) -> float:
    """p of the two-sided paired t-test that the mean difference is 0; NaN when n < 2.

    Differences that are all equal have no spread: p is then 0, or 1 when they are 0.
    """
    spread = describe(differences)
    return _t_test(spread.mean, spread.sd, spread.n)


def tost(differences: Iterable[float], margin: float) -> float:
    """p of the two one-sided paired t-tests (TOST) that the mean difference lies within ±`margin`; NaN when n < 2.

    The larger of the two p. It is at most alpha if and only if the t interval of coverage 1 - 2 alpha around the mean
    lies within the margin (Schuirmann, 1987).

    Args:
        differences: one per seed, of losses trained in pairs; NaN is left out.
        margin: > 0, in the unit of the differences.
    """
    spread = describe(differences)
    return _tost(spread.mean, spread.sd, spread.n, margin)


def detectable(sd: float, n: int, power: float = POWER, alpha: float = ALPHA) -> float:
    """The mean difference that a two-sided paired t-test at level `alpha` on `n` differences of standard deviation `sd`
    finds with probability `power`: the minimum detectable effect, in the unit of `sd`. NaN when n < 2.

    t of a true mean d follows the noncentral t distribution with noncentrality d sqrt(n) / sd.
    """
    if n < 2 or math.isnan(sd):
        return math.nan
    return sd / math.sqrt(n) * _noncentrality(n - 1, power, alpha)


@lru_cache
def _noncentrality(degrees: int, power: float, alpha: float) -> float:
    """At which |t| exceeds its two-sided critical value with probability `power`."""
    if degrees <= len(_KNOWN) and (power, alpha) == (POWER, ALPHA):
        return _KNOWN[degrees - 1]
    return _solved(degrees, power, alpha)


def _solved(degrees: int, power: float, alpha: float) -> float:
    from scipy.optimize import brentq
    from scipy.special import ncfdtr, stdtrit

    critical = float(stdtrit(degrees, 1 - alpha / 2)) ** 2

    def lacking(shift: float) -> float:
        # The square of a noncentral t is a noncentral F; both tails in one, and sound where scipy's nctdtr is NaN.
        return float(1 - ncfdtr(1, degrees, shift * shift, critical)) - power

    high = 1.0
    while lacking(high) < 0:
        high *= 2
    return float(brentq(lacking, 0.0, high, xtol=1e-12))


def _t_test(mean: float, sd: float | None, n: int) -> float:
    if sd is None:
        return math.nan
    if sd == 0:
        return float(mean == 0)
    from scipy.special import stdtr

    return float(2 * stdtr(n - 1, -abs(mean) / (sd / math.sqrt(n))))


def _tost(mean: float, sd: float | None, n: int, margin: float) -> float:
    if sd is None:
        return math.nan
    beyond = abs(mean) - margin  # of the margin that is nearer; that test has the larger p
    if sd == 0:
        return float(beyond >= 0)
    from scipy.special import stdtr

    return float(stdtr(n - 1, beyond / (sd / math.sqrt(n))))


@dataclass(frozen=True)
class Tested:
    """Both tests on the differences of one row, and what they say together.

    Attributes:
        p_difference: of the paired t-test that the difference is 0.
        p_equivalence: of TOST.
        verdict: "same" (within the margin), "better" or "worse" (not 0), "same, better" or "same, worse" (not 0, but
            within the margin), or "open": the seeds do not settle it.
        detectable: a smaller difference than this, in points, is found less than POWER of the time with this row's
            seeds and spread.
    """

    p_difference: float
    p_equivalence: float
    verdict: str
    detectable: float


def compare(paired: Paired | None, margin: float) -> Tested | None:
    """The tests on a row's differences; None where there are fewer than two.

    Args:
        margin: > 0, in points, like the differences.
    """
    if paired is None or paired.sd is None:
        return None
    p_difference = _t_test(paired.mean, paired.sd, paired.n)
    p_equivalence = _tost(paired.mean, paired.sd, paired.n, margin)
    words = ["same"] if p_equivalence <= ALPHA else []
    if p_difference < ALPHA:
        words.append("better" if paired.mean > 0 else "worse")
    found = detectable(paired.sd, paired.n)
    return Tested(p_difference, p_equivalence, ", ".join(words) or "open", found)


@dataclass(frozen=True)
class Sensitivity:
    """What a table could have found: with the commonest number of seeds `n` and the median standard deviation `sd` of
    its rows' differences, a difference below `detectable` is found less than POWER of the time; in the row of the
    largest standard deviation, one below `worst`. Rows that equal the reference in every seed count only if all do."""

    n: int
    sd: float
    detectable: float
    worst: float

    def corrected(self, tested: int) -> float:
        """As `detectable`, of a difference that is the only one among `tested` rows, which Holm's correction holds to
        ALPHA divided by their number."""
        return detectable(self.sd, self.n, alpha=ALPHA / tested)


def sensitivity(pairs: Sequence[Paired]) -> Sensitivity | None:
    """Of the rows that were tested; None without any."""
    counts = Counter(paired.n for paired in pairs if paired.sd is not None)
    if not counts:
        return None
    n = max(counts, key=lambda count: (counts[count], count))
    spreads = [paired.sd for paired in pairs if paired.sd is not None and paired.n == n]
    spreads = [sd for sd in spreads if sd > 0] or spreads
    sd = median(np.array(spreads))
    return Sensitivity(n, sd, detectable(sd, n), detectable(max(spreads), n))
