"""What mean ranks over blocks can tell: Friedman's test and Nemenyi's critical difference. Pure functions of numbers.

Demšar (2006, "Statistical comparisons of classifiers over multiple data sets").
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossbench.significance import ALPHA

Floats = NDArray[np.float64]
#: Below this a critical difference says more of the number of blocks than of the losses.
FEWEST_BLOCKS = 5
#: Sums of ranks gone through at a time for an exact distribution; beyond, so many permutations are drawn.
_MOST_EXACT = 100_000
_DRAWN = 19_999
#: Ranks held at a time while drawing.
_CHUNK = 2**21


@dataclass(frozen=True)
class Friedman:
    """p that all losses rank alike; over all permutations of the ranks within blocks, or `drawn` of them."""

    p: float
    drawn: int | None


def ranks_of(means: Floats) -> Floats:
    """(B, L) ranks of means (B, L), highest first; equal as printed (2 decimals) is equal, and -inf is last."""
    from scipy.stats import rankdata

    ranked: Floats = rankdata(-np.round(means, 2), axis=1)
    return ranked


def friedman(ranks: Floats, drawn: int = _DRAWN) -> Friedman | None:
    """Friedman's test that all L losses rank alike over B blocks; None with B < 2 or L < 3.

    p is the share of the permutations of the ranks within each block whose rank sums spread as much as those observed
    (Friedman 1937): exact where they can be gone through, else (1 + hits) / (1 + drawn) over permutations of a fixed
    seed (Phipson & Smyth 2010). The chi-squared and F approximations reject too often with few blocks.

    Args:
        ranks: (B, L), ties at their mean.
    """
    blocks, losses = ranks.shape
    if blocks < 2 or losses < 3:
        return None
    doubled = np.rint(2 * ranks).astype(np.int64)  # whole numbers, for ties are at halves: sums are exact
    observed = int(_spread(doubled.sum(axis=0)[None])[0])
    exact = _exact(doubled, observed)
    if exact is not None:
        return Friedman(exact, None)
    generator = np.random.default_rng(0)
    hits = 0
    size = max(1, _CHUNK // losses)
    for start in range(0, drawn, size):
        number = min(size, drawn - start)
        sums = np.zeros((number, losses), dtype=np.int64)
        for row in doubled:
            sums += generator.permuted(np.broadcast_to(row, (number, losses)), axis=1)
        hits += int(np.count_nonzero(_spread(sums) >= observed))
    return Friedman((1 + hits) / (1 + drawn), drawn)


def _spread(sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """Friedman's statistic but for a factor and a constant that permutations within blocks leave alone."""
    spread: NDArray[np.int64] = (sums**2).sum(axis=1)
    return spread


def _exact(doubled: NDArray[np.int64], observed: int) -> float | None:
    """The distribution of the rank sums, block by block; None where there are too many of them.

    Sums are kept in ascending order, equal ones together: the next block is permuted in all ways, and the statistic
    does not ask which loss is which.
    """
    losses = doubled.shape[1]
    if math.factorial(losses) > _MOST_EXACT:
        return None
    orders = np.array(list(itertools.permutations(range(losses))))
    sums = np.sort(doubled[:1], axis=1)
    shares: Floats = np.ones(1)
    for row in doubled[1:]:
        if len(sums) * len(orders) > _MOST_EXACT:
            return None
        reached = np.sort((sums[:, None] + row[orders]).reshape(-1, losses), axis=1)
        sums, places = np.unique(reached, axis=0, return_inverse=True)
        each = np.repeat(shares / len(orders), len(orders))
        shares = np.bincount(places.ravel(), weights=each).astype(np.float64)
    return min(1.0, float(shares[_spread(sums) >= observed].sum()))


def critical_difference(losses: int, blocks: int, alpha: float = ALPHA) -> float:
    """Nemenyi's: mean ranks over `blocks` blocks that differ by more are different at `alpha`, over all pairs of
    `losses` losses: q sqrt(L (L + 1) / (6 B)) (Demšar 2006, section 3.2.2)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, losses, math.inf)) / math.sqrt(2)
    return q * math.sqrt(losses * (losses + 1) / (6 * blocks))
