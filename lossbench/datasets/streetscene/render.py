"""A scene from its random stream: street, things from far to near, bonnet, camera."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lossbench.datasets.streetscene import classes as cl
from lossbench.datasets.streetscene.layout import Floats, Knobs, Layout, materials, sample_layout, smooth_noise
from lossbench.datasets.streetscene.surfaces import label_surfaces, paint_surfaces, sample_walls, sample_weather
from lossbench.datasets.streetscene.things import FACE, MOST_COLORS, STANDING, Kit, Part, fence

#: Spread (log-normal sigma) of the areas of the things of a class.
_SPREAD = 0.45
_RARE_SPREAD = 0.25


def render(
    rng: np.random.Generator,
    knobs: Knobs,
    counts: Mapping[int, int],
    height: int,
    width: int,
    *,
    area_factors: Mapping[int, float] | None = None,
    paint: bool = True,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image (H, W, 3) and target (H, W) with `counts` things of each class.

    Args:
        rng: the scene's own stream.
        knobs: calibrated expectations.
        counts: things by class.
        area_factors: by class, a factor on `knobs.areas` (default 1).
        paint: False leaves the image black, for calibration.
    """
    layout = sample_layout(rng, knobs, height, width)
    weather = sample_weather(rng, height, width)
    walls = sample_walls(rng, layout, knobs, weather.sun)
    labels = label_surfaces(layout, walls)
    canvas = paint_surfaces(rng, layout, walls, weather, labels) if paint else np.empty((0, 0, 3), np.float32)
    kit = Kit(iter(materials(rng, MOST_COLORS * sum(counts.values()) + 1)), weather.middle)
    for label, scale in _far_to_near(rng, layout, knobs, counts, area_factors or {}):
        foot = layout.foot(scale)
        if label == cl.FENCE:
            parts = fence(rng, kit, layout, scale, int(rng.integers(2)), bool(rng.random() < 0.4))
        else:
            x = _place(rng, layout, label, scale)
            parts = STANDING[label](rng, kit, scale, foot, x)
            if paint and label in (cl.CAR, cl.PERSON, cl.BICYCLE, cl.TRAIN, cl.VEGETATION):
                _contact_shadow(canvas, labels, parts[0], foot)
        for part in parts:
            _paste(canvas, labels, part, weather.middle if paint else None)
    if rng.random() < 0.5:
        _bonnet(rng, next(kit.colors), canvas, labels, paint)
    if not paint:
        return np.zeros((height, width, 3), np.uint8), labels
    return _expose(rng, canvas), labels


def _far_to_near(
    rng: np.random.Generator, layout: Layout, knobs: Knobs, counts: Mapping[int, int], factors: Mapping[int, float]
) -> list[tuple[int, float]]:
    """(class, scale) of every thing in the order of painting. The size wanted decides how near it stands."""
    pixels = layout.height * layout.width
    found = []
    for label, count in counts.items():
        spread = _RARE_SPREAD if label in cl.TAIL else _SPREAD
        areas = knobs.areas[label] * factors.get(label, 1.0) * pixels
        drawn = areas * np.exp(rng.normal(-(spread**2) / 2, spread, count))
        scales = np.clip(np.sqrt(drawn / FACE[label]), 0.6 * layout.far, layout.near)
        found += [(label, scale) for scale in scales.tolist()]
    return sorted(found, key=lambda thing: thing[1])


def _place(rng: np.random.Generator, layout: Layout, label: int, scale: float) -> float:
    """Column of a thing's middle: on the road, by its edges, or on a pavement; inside the image."""
    (left, right), (kerb_left, kerb_right) = layout.wall, layout.kerb
    side = rng.random() < 0.5
    pavement = (left + 0.3, kerb_left) if side else (kerb_right, right - 0.3)
    edge = (kerb_left, kerb_left + 2) if side else (kerb_right - 2, kerb_right)
    road = (kerb_left + 1, kerb_right - 1)
    if label in (cl.CAR, cl.TRAIN):
        span = road
    elif label == cl.BICYCLE:
        span = edge if rng.random() < 0.6 else pavement
    elif label == cl.PERSON:
        span = pavement if rng.random() < 0.7 else road
    else:
        span = pavement
    low, high = (layout.vx + metres * scale for metres in span)
    low, high = max(low, 0.02 * layout.width), min(high, 0.98 * layout.width)
    if low >= high:  # that strip is outside the image at this distance: stand at its border
        low, high = (0.01, 0.2) if (span[0] + span[1]) < 0 else (0.8, 0.99)
        low, high = low * layout.width, high * layout.width
    return float(rng.uniform(low, high))


def _clip(part: Part, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """(slices of the image, slices of the part), or None when nothing of it is inside."""
    rows, columns = part.mask.shape
    top, left = max(0, part.top), max(0, part.left)
    bottom, right = min(height, part.top + rows), min(width, part.left + columns)
    if top >= bottom or left >= right:
        return None
    inner = (slice(top - part.top, bottom - part.top), slice(left - part.left, right - part.left))
    return (slice(top, bottom), slice(left, right)), inner


def _paste(canvas: Floats, labels: NDArray[np.uint8], part: Part, noise: Floats | None) -> None:
    where = _clip(part, *labels.shape)
    if where is None:
        return
    outer, inner = where
    mask = part.mask[inner]
    labels[outer][mask] = part.label
    if noise is not None:
        # Paint the whole box and cut: patterns stay attached to the thing where the image's border cuts it.
        behind, field = canvas[outer], noise[outer]
        if behind.shape[:2] != part.mask.shape:
            behind = np.zeros((*part.mask.shape, 3), np.float32)
            behind[inner] = canvas[outer]
            field = np.zeros(part.mask.shape, np.float32)
            field[inner] = noise[outer]
        np.copyto(canvas[outer], part.paint(behind, field)[inner], where=mask[..., None])


def _contact_shadow(canvas: Floats, labels: NDArray[np.uint8], part: Part, foot: float) -> None:
    rows, columns = part.mask.shape
    depth, reach = max(1.0, 0.06 * rows), 0.56 * columns
    top, bottom = max(0, int(foot - depth)), min(labels.shape[0], int(foot + depth) + 1)
    left = max(0, int(part.left - 0.06 * columns))
    right = min(labels.shape[1], int(part.left + 1.06 * columns) + 1)
    if top >= bottom or left >= right:
        return
    y = (np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - foot) / depth
    x = (np.arange(left, right, dtype=np.float32) + 0.5 - part.left - columns / 2) / reach
    shade = 1 - 0.5 * np.clip(1.4 - y**2 - x**2, 0, 1)
    canvas[top:bottom, left:right] *= shade[..., None]


def _bonnet(rng: np.random.Generator, color: Floats, canvas: Floats, labels: NDArray[np.uint8], paint: bool) -> None:
    """The camera car's own bonnet, which no dataset of the kind labels."""
    height, width = labels.shape
    rise = rng.uniform(0.02, 0.06) * height
    u = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    mask = y > height - rise * (1 - 0.7 * u**2)
    labels[mask] = cl.VOID
    if paint:
        canvas[mask] = color * 0.5


def _expose(rng: np.random.Generator, canvas: Floats) -> NDArray[np.uint8]:
    """Light, lens and sensor: uneven light, saturation, white balance, blur, noise, gamma; 8 bits."""
    height, width, _ = canvas.shape
    light = 1 + rng.uniform(0.03, 0.14) * smooth_noise(rng, height, width, 2)
    u = np.linspace(-1, 1, width, dtype=np.float32)
    v = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    light = light * (1 - rng.uniform(0, 0.14) * (u**2 + v**2))
    balance = (1 + rng.normal(0, 0.09, 3)) * rng.uniform(0.7, 1.2)
    # In place from here on: fresh arrays of this size cost more than the arithmetic.
    image = canvas
    image *= light[..., None]
    image *= balance.astype(np.float32)
    grey = image.mean(axis=2, keepdims=True)
    image -= grey
    image *= np.float32(rng.uniform(0.15, 0.9))
    image += grey
    blur = rng.uniform(0.3, 0.65) * height / 96
    image = ndimage.gaussian_filter(image, (blur, blur, 0), truncate=2.5)
    gamma = np.float32(rng.uniform(0.75, 1.25))
    np.log(np.maximum(image, 1e-4, out=image), out=image)
    image *= gamma
    np.exp(image, out=image)  # x ** gamma, several times as fast
    # Shot noise grows with the root of the signal, read noise is constant.
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(rng.uniform(0.01, 0.045))
    noise *= np.sqrt(image + np.float32(0.3))
    image += noise
    image *= 255
    image += 0.5
    return np.asarray(np.clip(image, 0, 255, out=image), dtype=np.uint8)
