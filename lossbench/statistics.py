"""Statistics over repetitions: spread of one loss, paired differences between two. Pure functions of numbers.

Seeds are the unit of replication. Two losses of one seed share initial weights, sample order, crops and flips
(common random numbers), so what is compared is their difference *within* a seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: Coverage of the intervals that lossbench prints.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Description:
    """Mean, sample standard deviation (ddof = 1; None when n < 2) and number of values."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Paired:
    """Differences (value - reference) over the seeds that both have.

    Attributes:
        mean, sd: of the differences; sd is None when n < 2.
        half_width: half the width of the t interval around the mean; None when n < 2.
        seeds: the common seeds, sorted.
        confidence: coverage of the interval.
    """

    mean: float
    sd: float | None
    half_width: float | None
    seeds: tuple[int, ...]
    confidence: float = CONFIDENCE

    @property
    def n(self) -> int:
        return len(self.seeds)

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high), or None when n < 2."""
        if self.half_width is None:
            return None
        return self.mean - self.half_width, self.mean + self.half_width


def describe(values: Iterable[float] | NDArray[np.float64]) -> Description:
    """Mean and spread of the values that are not NaN; mean NaN when there is none."""
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    array = array[~np.isnan(array)]
    if not len(array):
        return Description(math.nan, None, 0)
    sd = float(array.std(ddof=1)) if len(array) > 1 else None
    return Description(float(array.mean()), sd, len(array))


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], confidence: float = CONFIDENCE
) -> Paired | None:
    """`values` minus `reference`, both by seed, over the seeds where both are defined; None without any.

    The interval is Student's t on the n differences: mean ± t(n - 1) sd / sqrt(n). It holds for normally
    distributed differences; with 2 seeds it is 12.7 sd/sqrt(2) wide each side, and that is the honest width.
    """
    seeds = sorted(values.keys() & reference.keys())
    differences = np.array([values[seed] for seed in seeds]) - np.array([reference[seed] for seed in seeds])
    defined = ~np.isnan(differences)
    if not defined.any():
        return None
    seeds = [seed for seed, counts in zip(seeds, defined.tolist(), strict=True) if counts]
    spread = describe(differences)
    half_width = None if spread.sd is None else t_quantile(len(seeds) - 1, confidence) * spread.sd / len(seeds) ** 0.5
    return Paired(spread.mean, spread.sd, half_width, tuple(seeds), confidence)


@lru_cache
def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of Student's t: P(|t| <= q) = confidence, to about 13 digits.

    Newton's iteration on `_t_coverage`: it is concave, so from 0 the iteration rises to the root. (scipy's stdtrit
    would take a quarter of a second to import.)
    """
    q = 0.0
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - math.log(degrees * math.pi) / 2
    for _ in range(100):
        density = 2 * math.exp(log_scale - (degrees + 1) / 2 * math.log1p(q * q / degrees))
        step = (confidence - _t_coverage(q, degrees)) / density
        q += step
        if abs(step) <= 1e-14 * q:
            break
    return q


def _t_coverage(t: float, degrees: int) -> float:
    """P(|T| <= t) for Student's t with a whole number of degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    sine, cosine = t / math.hypot(t, math.sqrt(degrees)), math.sqrt(degrees / (degrees + t * t))
    odd = degrees % 2
    term = cosine if odd else 1.0
    terms = [term] if degrees > 1 else []
    for k in range(2 + odd, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        terms.append(term)
    total = sine * math.fsum(terms)
    return 2 / math.pi * (math.atan2(t, math.sqrt(degrees)) + total) if odd else total


def paired_ratio(values: Mapping[int, float], reference: Mapping[int, float]) -> float | None:
    """Median over common seeds of value / reference; None without any."""
    seeds = values.keys() & reference.keys()
    ours, theirs = np.array([values[seed] for seed in seeds]), np.array([reference[seed] for seed in seeds])
    sound = (theirs > 0) & ~np.isnan(ours)
    return median(ours[sound] / theirs[sound]) if sound.any() else None


def median(values: NDArray[np.float64]) -> float:
    """The middle of values none of which is NaN, or the mean of the middle two; NaN without any."""
    # np.median imports numpy's masked arrays: 20 ms.
    if not len(values):
        return math.nan
    ordered = np.sort(values)
    return float((ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2)
