"""Label noise: patches of wrong labels, as careless annotation leaves them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets.streetscene.layout import smooth_noise


def flip_labels(
    rng: np.random.Generator, target: NDArray[np.uint8], share: float, num_classes: int
) -> NDArray[np.uint8]:
    """A copy of `target` (H, W) in which `share` of the labelled pixels, in patches, carry a wrong class.

    The wrong classes of a patch are drawn by the image's own class histogram, so the shares of classes stay about
    as they are. Ignored pixels stay ignored. An image of one class is left alone: it has no class to confuse.
    """
    labelled = target < num_classes
    histogram = np.bincount(target[labelled], minlength=num_classes)[:num_classes].astype(np.float64)
    if (histogram > 0).sum() < 2:
        return target.copy()
    height, width = target.shape
    field = smooth_noise(rng, height, width, 6) + 0.5 * smooth_noise(rng, height, width, 16)
    field += 1e-4 * rng.standard_normal((height, width), dtype=np.float32)  # no ties
    count = round(share * int(labelled.sum()))
    order = np.argsort(np.where(labelled, -field, np.inf), axis=None, kind="stable")
    chosen = np.zeros(target.size, bool)
    chosen[order[:count]] = True
    # Two different classes per cell of a coarse grid: the second where the first is the truth.
    cells = 8
    first = rng.choice(num_classes, cells * cells, p=histogram / histogram.sum())
    others = np.tile(histogram, (cells * cells, 1))
    others[np.arange(cells * cells), first] = 0
    limits = np.cumsum(others, axis=1)
    second = (limits < rng.random((cells * cells, 1)) * limits[:, -1:]).sum(axis=1)
    rows = np.arange(height) * cells // height
    cell = rows[:, None] * cells + (np.arange(width) * cells // width)[None]
    wrong = np.where(target == first[cell], second[cell], first[cell]).astype(np.uint8)
    return np.where(chosen.reshape(target.shape), wrong, target)
