"""Sky, buildings and ground: computed for whole images at once, by inverting the projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets.streetscene.classes import BUILDING, PAVEMENT, ROAD, SKY
from lossbench.datasets.streetscene.layout import Floats, Knobs, Layout, materials, smooth_noise


@dataclass(frozen=True)
class Weather:
    """Light of a scene: sky color, sunlit side (-1, 0, 1), haze per metre, wetness and noise fields (H, W)."""

    sky: Floats
    sun: int
    haze: float
    coarse: Floats
    middle: Floats
    grain: Floats


def sample_weather(rng: np.random.Generator, height: int, width: int) -> Weather:
    """Overcast to blue skies."""
    overcast = rng.random()
    blue = np.array([0.42, 0.58, 0.85], np.float32)
    grey = np.full(3, rng.uniform(0.55, 0.92), np.float32)
    return Weather(
        sky=(overcast * grey + (1 - overcast) * blue).astype(np.float32),
        sun=int(rng.integers(-1, 2)),
        haze=float(rng.uniform(0.0, 0.012)),
        coarse=smooth_noise(rng, height, width, 3),
        middle=smooth_noise(rng, height, width, max(4, height // 8)) * 0.7
        + smooth_noise(rng, height, width, max(6, height // 3)) * 0.7,
        grain=rng.standard_normal((height, width), dtype=np.float32),
    )


@dataclass(frozen=True)
class Walls:
    """Facades per image column: scale (pixels a metre), top and bottom rows, coordinate along the wall (m), the
    index of the facade, and the light that falls on it."""

    scale: Floats
    top: Floats
    bottom: Floats
    along: Floats
    facade: NDArray[np.intp]
    light: Floats
    count: int


def sample_walls(rng: np.random.Generator, layout: Layout, knobs: Knobs, sun: int) -> Walls:
    """Facades of different heights along both sides, and across the far end of the street."""
    x = np.arange(layout.width, dtype=np.float32) + 0.5 - layout.vx
    side = (x > 0).astype(np.intp)
    distance = np.where(x > 0, layout.wall[1], -layout.wall[0]).astype(np.float32)
    scale = np.abs(x) / distance
    end = scale < layout.far
    scale = np.maximum(scale, layout.far)
    depth = layout.focal / scale
    # Facades of 5 to 16 m; side s has its own run of boundaries, the end of the street a third.
    edges = np.cumsum(rng.uniform(5, 16, (3, 24)), axis=1)
    along = np.where(end, x / layout.far + 100, depth).astype(np.float32)
    group = np.where(end, 2, side)
    facade = np.empty(layout.width, np.intp)
    for index in range(3):
        chosen = group == index
        facade[chosen] = np.searchsorted(edges[index], along[chosen]) + 25 * index
    used, facade = np.unique(facade, return_inverse=True)
    count = len(used)
    heights = rng.uniform(4, 17, count) * knobs.walls
    heights[rng.random(count) < 0.18] *= 0.3  # a gap: only a low wall or shed
    light = np.array([0.72 if sun > 0 else 1.05, 0.72 if sun < 0 else 1.05, 0.9])
    return Walls(
        scale=scale,
        top=(layout.horizon - (heights[facade] - layout.eye) * scale).astype(np.float32),
        bottom=(layout.horizon + layout.eye * scale).astype(np.float32),
        along=along,
        facade=facade,
        light=light[group].astype(np.float32),
        count=count,
    )


def label_surfaces(layout: Layout, walls: Walls) -> NDArray[np.uint8]:
    """Target (H, W) of the empty street."""
    y = (np.arange(layout.height, dtype=np.float32) + 0.5)[:, None]
    x = (np.arange(layout.width, dtype=np.float32) + 0.5)[None] - layout.vx
    scale = np.maximum(y - layout.horizon, 0) / layout.eye
    road = (x >= layout.kerb[0] * scale) & (x < layout.kerb[1] * scale)
    labels = np.where(road, np.uint8(ROAD), np.uint8(PAVEMENT))
    # A facade lower than the eye lies below the horizon, but never below its own foot.
    labels = np.where(y < walls.bottom, np.uint8(BUILDING), labels)
    return np.where(y < np.minimum(walls.top, walls.bottom), np.uint8(SKY), labels)


def paint_surfaces(
    rng: np.random.Generator, layout: Layout, walls: Walls, weather: Weather, labels: NDArray[np.uint8]
) -> Floats:
    """RGB (H, W, 3) in about 0..1 of the empty street."""
    canvas = _sky(rng, layout, weather)
    # Facades end where the nearest wall meets the ground.
    last = min(layout.height, int(walls.bottom.max()) + 1)
    building = labels[:last] == BUILDING
    np.copyto(canvas[:last], _facades(rng, layout, walls, weather, last), where=building[..., None])
    first = max(0, int(layout.horizon))
    ground = (labels[first:] == ROAD) | (labels[first:] == PAVEMENT)
    np.copyto(canvas[first:], _ground(rng, layout, weather, first), where=ground[..., None])
    return canvas


def _sky(rng: np.random.Generator, layout: Layout, weather: Weather) -> Floats:
    rows = np.linspace(1, 0, layout.height, dtype=np.float32)[:, None]
    clouds = weather.coarse * rng.uniform(0.02, 0.1)
    light = 1 + rng.uniform(-0.3, 0.1) * rows + clouds
    return np.asarray(light[..., None] * weather.sky, dtype=np.float32)


def _facades(rng: np.random.Generator, layout: Layout, walls: Walls, weather: Weather, last: int) -> Floats:
    y = (np.arange(last, dtype=np.float32) + 0.5)[:, None]
    above = (walls.bottom - y) / walls.scale  # metres above the ground
    base, shop = materials(rng, walls.count), materials(rng, walls.count)
    pane = np.where(rng.random((walls.count, 1)) < 0.6, base * 0.35, 0.8 * weather.sky).astype(np.float32)
    numbers = rng.random((4, walls.count), dtype=np.float32)
    period_u, period_v = 1.8 + 2 * numbers[0], 2.6 + numbers[1]
    fill_u, fill_v = 0.3 + 0.4 * numbers[2], 0.4 + 0.3 * numbers[3]
    f = walls.facade
    # Repeated openings; `fade` blends to their mean where they are finer than the pixels (no aliasing).
    u = (walls.along / period_u[f]) % 1
    v = (above / period_v[f]) % 1
    row_fade = np.clip(walls.scale * period_u[f] / 2.5 - 0.8, 0, 1) * np.clip(walls.scale * period_v[f] / 2 - 0.8, 0, 1)
    window = ((np.abs(u - 0.5) < fill_u[f] / 2) & (np.abs(v - 0.55) < fill_v[f] / 2)).astype(np.float32)
    window = window * row_fade + (1 - row_fade) * (fill_u * fill_v)[f]
    ground_floor = (above < 3.0).astype(np.float32) * (numbers[0] < 0.6)[f]
    window = window * (1 - ground_floor * 0.4)
    light = walls.light * (1 + 0.05 * weather.coarse[:last] + 0.05 * weather.middle[:last])
    color = base[f] + ground_floor[..., None] * (shop - base)[f]
    color = color + window[..., None] * (pane[f] - color)
    haze = (1 - np.exp(-weather.haze * layout.focal / walls.scale))[:, None]
    return np.asarray(light[..., None] * color * (1 - haze) + haze * weather.sky, dtype=np.float32)


def _ground(rng: np.random.Generator, layout: Layout, weather: Weather, first: int) -> Floats:
    y = (np.arange(first, layout.height, dtype=np.float32) + 0.5)[:, None]
    x = (np.arange(layout.width, dtype=np.float32) + 0.5)[None] - layout.vx
    scale = np.maximum(y - layout.horizon, 0.3) / layout.eye
    depth = layout.focal / scale
    lateral = x / scale
    tint = 1 + np.array([0.05, 0, -0.05], np.float32) * np.float32(rng.normal())
    asphalt = np.float32(rng.uniform(0.22, 0.6)) * tint
    paving = asphalt * np.float32(rng.uniform(0.8, 1.3)) * (1 + 0.04 * rng.standard_normal(3, dtype=np.float32))
    road = (lateral >= layout.kerb[0]) & (lateral < layout.kerb[1])
    # Slabs of 0.6 m, faded where finer than the pixels.
    joints = ((lateral % 0.6 < 0.08) | (depth % 0.6 < 0.08)).astype(np.float32) * np.clip(scale * 0.6 / 4 - 0.5, 0, 1)
    rough = rng.uniform(0.02, 0.08)
    light = 1 + rough * weather.grain[first:] + 0.08 * weather.middle[first:]
    light = light * np.where(road, 1, 1 - 0.25 * joints)
    color = np.where(road[..., None], asphalt, paving)
    # Paint on the road is road: a broken middle line, edge lines at random. Coverage is exact below a pixel.
    middle = (layout.kerb[0] + layout.kerb[1]) / 2 + rng.uniform(-1, 1)
    broken = ((depth + rng.uniform(0, 6)) % 6 < 3).astype(np.float32)
    lines = [(middle, broken)]
    if rng.random() < 0.5:
        lines += [(layout.kerb[0] + 0.4, 1.0), (layout.kerb[1] - 0.4, 1.0)]
    paint = np.float32(0)
    for position, on in lines:
        paint = np.maximum(paint, np.clip(0.5 + (0.09 - np.abs(lateral - position)) * scale, 0, 1) * on)
    color = color + (paint * road * rng.uniform(0.2, 0.9))[..., None] * (0.85 - color)
    for edge in layout.kerb:
        kerb = np.clip(0.5 + (0.08 - np.abs(lateral - edge)) * scale, 0, 1) * 0.3
        light = light * (1 + (kerb if rng.random() < 0.5 else -kerb))
    if weather.sun:  # the shadow of one row of houses
        reach = layout.wall[1 if weather.sun < 0 else 0] * rng.uniform(-0.1, 0.6)
        shade = lateral > reach if weather.sun < 0 else lateral < reach
        light = light * np.where(shade, rng.uniform(0.45, 0.7), 1)
    haze = 1 - np.exp(-weather.haze * depth)[..., None]
    return np.asarray(light[..., None] * color * (1 - haze) + haze * weather.sky, dtype=np.float32)
