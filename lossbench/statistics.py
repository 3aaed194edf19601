"""Statistics over repetitions: spread of one loss, paired differences between two. Pure functions of numbers.

Seeds are the unit of replication. Two losses of one seed share initial weights, sample order, crops and flips
(common random numbers), so what is compared is their difference *within* a seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

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


def describe(values: Iterable[float]) -> Description:
    """Mean and spread of the values that are not NaN; mean NaN when there is none."""
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return Description(math.nan, None, 0)
    array = np.asarray(defined, dtype=np.float64)
    sd = float(array.std(ddof=1)) if len(array) > 1 else None
    return Description(float(array.mean()), sd, len(array))


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], confidence: float = CONFIDENCE
) -> Paired | None:
    """`values` minus `reference`, both by seed, over the seeds where both are defined; None without any.

    The interval is Student's t on the n differences: mean ± t(n - 1) sd / sqrt(n). It holds for normally
    distributed differences; with 2 seeds it is 12.7 sd/sqrt(2) wide each side, and that is the honest width.
    """
    seeds = tuple(
        seed
        for seed in sorted(values.keys() & reference.keys())
        if not (math.isnan(values[seed]) or math.isnan(reference[seed]))
    )
    if not seeds:
        return None
    spread = describe(values[seed] - reference[seed] for seed in seeds)
    half_width = None if spread.sd is None else t_quantile(len(seeds) - 1, confidence) * spread.sd / len(seeds) ** 0.5
    return Paired(spread.mean, spread.sd, half_width, seeds, confidence)


def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """The two-sided quantile of Student's t: P(|t| <= q) = confidence."""
    from scipy.special import stdtrit  # scipy.stats would take half a second to import

    return float(stdtrit(degrees, (1 + confidence) / 2))


def paired_ratio(values: Mapping[int, float], reference: Mapping[int, float]) -> float | None:
    """Median over common seeds of value / reference; None without any."""
    ratios = [
        values[seed] / reference[seed]
        for seed in values.keys() & reference.keys()
        if reference[seed] > 0 and not math.isnan(values[seed])
    ]
    return float(np.median(ratios)) if ratios else None
