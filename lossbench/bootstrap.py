"""Bootstrap over seeds and images: how far would mIoU, and its difference to the reference, move with other ones?

The seeds of a loss are scored on one and the same set of images: the two are crossed, not nested. So each resample
draws images once, for all seeds and losses alike, draws seeds, pools the counts of the drawn images for each seed,
and takes the mean of the seeds' mIoU (Owen 2007, "The pigeonhole bootstrap"). Images drawn anew for each seed would
average the images away, as if every seed had been scored on images of its own. A difference is taken within a seed and
on the same images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossbench.metrics import FN, FP, TP
from lossbench.statistics import CONFIDENCE, t_quantile

RESAMPLES = 10_000
#: Of the generator: the same records give the same interval.
_SEED = 20_221_125
#: Bytes of image weights held at a time.
_BLOCK_BYTES = 2**25
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval, in points.

    Attributes:
        low, high: of the mean over seeds, or of the mean difference.
        seeds, images: how many there were to draw from. With one seed only images are drawn.
        resamples: how many.
    """

    low: float
    high: float
    seeds: int
    images: int
    resamples: int
    confidence: float = CONFIDENCE


def resampled_miou(counts: NDArray[np.integer], resamples: int = RESAMPLES) -> Floats:
    """mIoU in percent of every seed over `resamples` draws of the images, (resamples, S).

    The draws depend on the number of images alone: they are the same for all losses of a block.

    Args:
        counts: (S, I, C, 3) TP, FP, FN per seed, image and class. A class that a resample has in neither truth nor
            prediction is left out of its mean, as everywhere (`lossbench.metrics`).
    """
    seeds, images, classes, _ = counts.shape
    hits = counts[..., TP].astype(np.float64)
    union = hits + counts[..., FP] + counts[..., FN]
    columns = np.stack([hits, union]).transpose(2, 0, 1, 3).reshape(images, 2 * seeds * classes)
    generator = np.random.default_rng(_SEED)
    found = np.empty((resamples, seeds))
    size = max(1, _BLOCK_BYTES // (8 * images))
    for start in range(0, resamples, size):
        number = min(size, resamples - start)
        # Sums of integers below 2^53: exact in float64, whatever the order.
        sums = (_weights(generator, number, images) @ columns).reshape(number, 2, seeds, classes)
        present = sums[:, 1] > 0
        iou = np.divide(sums[:, 0], sums[:, 1], out=np.zeros_like(sums[:, 0]), where=present)
        with np.errstate(invalid="ignore"):
            found[start : start + number] = 100 * iou.sum(-1) / present.sum(-1)
    return found


def _weights(generator: np.random.Generator, number: int, images: int) -> Floats:
    """(number, images): how often each image is drawn in each resample."""
    drawn = generator.integers(0, images, (number, images))
    drawn += images * np.arange(number)[:, None]
    return np.bincount(drawn.ravel(), minlength=number * images).reshape(number, images).astype(np.float64)


def interval(per_seed: Floats, images: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of the mean over seeds of values (resamples, S), by drawing seeds in each resample.

    Percentiles, expanded for few seeds (Hesterberg 2015, "What teachers should know about the bootstrap", section
    5.3): a bootstrap over S seeds has a spread too small by sqrt((S - 1) / S) and normal instead of Student's tails,
    so the levels are moved out to those at which it would have Student's coverage. With few seeds that is the lowest
    and highest value drawn; it still cannot look beyond the seeds there are.
    """
    resamples, seeds = per_seed.shape
    if seeds > 1:
        drawn = np.random.default_rng(_SEED + 1).integers(0, seeds, (resamples, seeds))
        means = np.take_along_axis(per_seed, drawn, axis=1).mean(axis=1)
        tail = _normal_cdf(-t_quantile(seeds - 1, confidence) * math.sqrt(seeds / (seeds - 1)))
    else:
        means, tail = per_seed[:, 0], (1 - confidence) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail]).tolist() if not np.isnan(means).all() else (math.nan, math.nan)
    return Interval(low, high, seeds, images, resamples, confidence)


def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
