"""Label maps as pictures: every class in its own colour, regions where a prediction is wrong hatched and outlined.

(Paler colours where it is right would be other colours: those of other classes, often enough.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.uint8]
Labels = NDArray[np.uint8]

#: Of ignored pixels: stripes of these greys.
IGNORED = ((255, 255, 255), (190, 190, 190))
OUTLINE = (0, 0, 0)
#: Opacity of the hatching, black on light colours and white on dark ones.
HATCHING = 0.7
#: Wrong regions narrower than this share of a picture's width are not marked: along every border between classes a
#: prediction is off by a pixel or two, and marking that would be noise.
NARROW = 0.015


def resized(labels: NDArray[Any], width: int) -> NDArray[Any]:
    """Label maps or pictures (H, W[, 3]) at that width by the nearest pixel, same shape of pixels."""
    height = max(1, round(labels.shape[0] * width / labels.shape[1]))
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(np.intp)
    sampled: NDArray[Any] = labels[rows[:, None], columns]
    return sampled


def truth_picture(truth: Labels, colors: Sequence[tuple[int, int, int]], ignore: int) -> Picture:
    """(H, W, 3) of a target (H, W): every class in its colour, ignored pixels striped."""
    return _striped(_palette(colors)[truth], truth == ignore)


def prediction_picture(
    prediction: Labels, truth: Labels, colors: Sequence[tuple[int, int, int]], ignore: int, *, line: int = 1
) -> Picture:
    """(H, W, 3) of a prediction (H, W) beside its truth.

    Args:
        line: pixels of an outline.
    """
    picture = _palette(colors)[prediction]
    ignored = truth == ignore
    region = marked((prediction != truth) & ~ignored)
    light = picture @ np.array([0.299, 0.587, 0.114]) > 128
    stripe = region & (_diagonals(region.shape, 7 * line) < line)[:, ::-1]
    ink = np.where(light, 0.0, 255.0)[..., None]
    hatched = (HATCHING * ink + (1 - HATCHING) * picture).round().astype(np.uint8)
    picture[stripe] = hatched[stripe]
    picture[region & (_distance(region) <= line)] = OUTLINE
    return _striped(picture, ignored)


def marked(wrong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of (H, W) that belong to regions which are not narrow."""
    radius = max(1, round(NARROW * wrong.shape[1] / 2))
    # A region is what is left after taking `radius` off it and giving that back.
    inner = _distance(wrong) > radius
    if not inner.any():
        return np.zeros_like(wrong)
    region: NDArray[np.bool_] = (ndimage.distance_transform_edt(~inner) <= radius + 1) & wrong
    return region


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pixels from each pixel of the mask to the nearest one that is not of it."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(mask)
    return distance


def _palette(colors: Sequence[tuple[int, int, int]]) -> Picture:
    """(256, 3); ids without a colour are white."""
    palette = np.full((256, 3), 255, np.uint8)
    palette[: len(colors)] = np.asarray(colors, np.uint8)
    return palette


def _striped(picture: Picture, where: NDArray[np.bool_]) -> Picture:
    period = max(4, where.shape[1] // 40)
    stripes = np.asarray(IGNORED, np.uint8)[(_diagonals(where.shape, period) < period / 3).astype(np.intp)]
    picture[where] = stripes[where]
    return picture


def _diagonals(shape: tuple[int, ...], period: int) -> NDArray[np.intp]:
    """(H, W), row plus column modulo `period`."""
    diagonals: NDArray[np.intp] = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % period
    return diagonals
