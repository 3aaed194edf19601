"""Figures of a loss over the runs of several blocks, each block of the same weight. Pure functions of numbers.

Agarwal et al. (2021, "Deep reinforcement learning at the edge of the statistical precipice"): interquartile mean,
probability of improvement, performance profile. A run that scored nothing is -inf: below all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossbench.statistics import CONFIDENCE

Floats = NDArray[np.float64]
#: Fewest and most resamples; with many seeds fewer do.
_RESAMPLES = (200, 5000)
_SEEDS_DRAWN = 400_000
_SEED = 20_221_125


@dataclass(frozen=True)
class Range:
    """A figure with its bootstrap interval. The figure is NaN where it is undefined; no interval then, nor where a
    block has a single seed to draw from."""

    value: float
    low: float | None = None
    high: float | None = None


def interquartile_mean(values: Floats, weights: Floats) -> Floats:
    """Mean of the middle half, by weight, along the last axis; a value that lies across a quartile counts in part.

    Args:
        values: (..., n).
        weights: (n) > 0. With equal ones, and n a multiple of 4, it is the mean trimmed by a quarter at each end.
    """
    order = np.argsort(values, axis=-1, kind="stable")
    shares = (weights / weights.sum())[order]
    ends = np.cumsum(shares, axis=-1)
    inside = np.clip(np.minimum(ends, 0.75) - np.maximum(ends - shares, 0.25), 0, None)
    mean: Floats = (inside * np.take_along_axis(values, order, axis=-1)).sum(axis=-1) / inside.sum(axis=-1)
    return mean


def probability_of_improvement(ours: Floats, theirs: Floats) -> float:
    """P(X > Y) + P(X = Y) / 2 over all pairs of runs (the Mann-Whitney statistic)."""
    return float(
        _chances(ours, theirs, np.full((1, len(ours)), 1 / len(ours)), np.full((1, len(theirs)), 1 / len(theirs)))[0]
    )


def _chances(ours: Floats, theirs: Floats, our_weights: Floats, their_weights: Floats) -> Floats:
    """(R) the same of runs with weights (R, S), each row of which adds up to 1: for each of our runs, the weight of
    theirs below it and half of those equal to it, from sums over sorted runs, not from all pairs."""
    order = np.argsort(theirs, kind="stable")
    below = np.concatenate([np.zeros((len(their_weights), 1)), np.cumsum(their_weights[:, order], axis=1)], axis=1)
    first, last = (np.searchsorted(theirs[order], ours, side) for side in ("left", "right"))
    chances: Floats = ((below[:, first] + below[:, last]) / 2 * our_weights).sum(axis=1)
    return chances


def performance_profile(relative: Sequence[Floats], levels: Floats) -> Floats:
    """(L, levels): share of the runs whose relative score is above each level; every block has the same weight."""
    shares = [(found.T[:, :, None] > levels).mean(axis=1) for found in relative]
    profile: Floats = np.mean(shares, axis=0)
    return profile


def resampled(relative: Sequence[Floats], reference: int) -> tuple[list[Range], list[Range | None]]:
    """Interquartile mean, and probability of improvement on the reference (None for itself), of each loss, with
    percentile intervals of a bootstrap that draws seeds within each block (stratified), the same for all losses.

    Args:
        relative: of each block (S, L); S may differ.
        reference: its column; none of its runs is -inf.
    """
    generator = np.random.default_rng(_SEED)
    number = int(np.clip(_SEEDS_DRAWN // max(map(len, relative)), *_RESAMPLES))
    drawn = [generator.integers(0, len(found), (number, len(found))) for found in relative]
    # How often each seed is drawn.
    times = [
        np.stack([np.bincount(row, minlength=len(found)) for row in rows]) / len(found)
        for rows, found in zip(drawn, relative, strict=True)
    ]
    weights = np.concatenate([np.full(len(found), 1 / len(found)) for found in relative])
    single = min(map(len, relative)) < 2
    iqm, improvement = [], list[Range | None]()
    for loss in range(relative[0].shape[1]):
        runs = np.concatenate([found[:, loss] for found in relative])
        if np.isneginf(runs).any():
            iqm.append(Range(math.nan))
        else:
            each = [found[rows, loss] for found, rows in zip(relative, drawn, strict=True)]
            spread = interquartile_mean(np.concatenate(each, axis=1), weights)
            iqm.append(_range(float(interquartile_mean(runs, weights)), spread, single))
        if loss == reference:
            improvement.append(None)
            continue
        pairs = [(found[:, loss], found[:, reference]) for found in relative]
        chance = float(np.mean([probability_of_improvement(*pair) for pair in pairs]))
        chances = np.mean([_chances(*pair, w, w) for pair, w in zip(pairs, times, strict=True)], axis=0)
        improvement.append(_range(chance, chances, single))
    return iqm, improvement


def _range(value: float, spread: Floats, single: bool) -> Range:
    if single:
        return Range(value)
    low, high = np.quantile(spread, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Range(value, low, high)
