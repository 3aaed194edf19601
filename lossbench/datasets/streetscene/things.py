"""Things: trees, cars, fences, poles, people, signs, bicycles, trains. Each is a mask in its own box and a way to
paint it, so that labels are exact and calibration need not paint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets.streetscene import classes as cl
from lossbench.datasets.streetscene.layout import Floats, Layout

Mask = NDArray[np.bool_]
#: From the pixels behind the box, RGB (h, w, 3), and a noise field (h, w) to the painted box, RGB (h, w, 3).
Paint = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class Kit:
    """What a scene hands to its things: colors drawn ahead (see `materials`) and a noise field (H, W)."""

    colors: Iterator[Floats]
    noise: Floats


@dataclass(frozen=True)
class Part:
    """One labelled piece of a thing in a box whose upper left pixel is (top, left)."""

    label: int
    mask: Mask
    top: int
    left: int
    paint: Paint


#: Square metres a thing covers, to choose the scale from the area wanted (calibration corrects the rest).
FACE = {
    cl.VEGETATION: 14.0,
    cl.CAR: 2.6,
    cl.FENCE: 3.0,
    cl.POLE: 1.0,
    cl.PERSON: 0.62,
    cl.SIGN: 0.42,
    cl.BICYCLE: 1.1,
    cl.TRAIN: 9.0,
}

#: Colors one thing takes from the kit at most.
MOST_COLORS = 2


def _box(height: float, width: float) -> tuple[Floats, Floats]:
    """Pixel-centre coordinates of a box: v (h, 1) from 0 at its top to 1 at its foot, u (1, w) from -1 to 1."""
    rows, columns = max(2, round(height)), max(1, round(width))
    v, u = _coordinates(rows), _coordinates(columns)
    return v[:, None], (2 * u - 1)[None]


@lru_cache(maxsize=4096)
def _coordinates(count: int) -> Floats:
    return np.asarray((np.arange(count) + 0.5) / count, dtype=np.float32)


def _layers(base: Floats, *layers: tuple[Mask | Floats, Floats | float], relief: float = 0.05) -> Paint:
    """Flat color with others laid over it, a little darker towards the foot, with some relief."""

    def paint(behind: Floats, noise: Floats) -> Floats:
        color: Floats = np.broadcast_to(base, behind.shape)
        for cover, over in layers:
            color = color + np.asarray(cover, np.float32)[..., None] * (over - color)
        shade = np.linspace(1.1, 0.85, len(behind), dtype=np.float32)[:, None] + relief * noise
        return np.asarray(shade[..., None] * color, dtype=np.float32)

    return paint


def _standing(label: int, mask: Mask, foot: float, x: float, paint: Paint) -> Part:
    height, width = mask.shape
    return Part(label, mask, round(foot) - height, round(x - width / 2), paint)


def tree(rng: np.random.Generator, kit: Kit, scale: float, foot: float, x: float) -> list[Part]:
    """A tree, or (one in three) a bush."""
    bush = rng.random() < 0.35
    tall, wide = (rng.uniform(1.5, 3), rng.uniform(3, 6)) if bush else (rng.uniform(4.5, 7), rng.uniform(3, 5))
    v, u = _box(tall * scale, wide * scale)
    rows, columns = v.size, u.size
    noise = kit.noise
    top, left = rng.integers(0, [max(1, len(noise) - rows), max(1, noise.shape[1] - columns)])
    ragged = np.resize(noise[top : top + rows, left : left + columns], (rows, columns))
    middle, half = (0.6, 0.6) if bush else (0.36, 0.38)
    crown = u**2 + ((v - middle) / half) ** 2 < 0.8 + 0.3 * ragged
    trunk = (np.abs(u) < max(0.05, 0.6 / columns)) & (v > middle)
    mask = crown | trunk if not bush else crown | ((v > 0.7) & (np.abs(u) < 0.8))
    kind = rng.random()
    leaf = (
        np.array([0.16, 0.3, 0.1]) * rng.uniform(0.7, 1.9)
        if kind < 0.45
        else np.array([0.45, 0.36, 0.2]) * rng.uniform(0.5, 1.3)
        if kind < 0.7
        else np.full(3, rng.uniform(0.15, 0.4)) * [1.05, 1, 0.85]
    ).astype(np.float32)
    depth = np.float32(rng.uniform(0.2, 0.45))

    def paint(behind: Floats, field: Floats) -> Floats:
        light = np.clip(1 + depth * field - 0.25 * (v - 0.4), 0.25, 2)
        return np.asarray(light[..., None] * leaf, dtype=np.float32)

    return [_standing(cl.VEGETATION, mask, foot, x, paint)]


def car(rng: np.random.Generator, kit: Kit, scale: float, foot: float, x: float) -> list[Part]:
    """A car from behind, or (one in three) from the side."""
    body = next(kit.colors)
    glass = (np.float32(rng.uniform(0.08, 0.35)) * np.array([0.9, 1, 1.1])).astype(np.float32)
    if rng.random() < 0.66:
        v, u = _box(1.5 * scale, 1.8 * scale)
        edge = np.abs(u)
        mask = (edge < np.where(v < 0.45, 0.62 + 0.7 * v, 0.98)) & ((v < 0.88) | ((edge > 0.6) & (edge < 0.95)))
        window = (v > 0.1) & (v < 0.4) & (edge < 0.5 + 0.7 * v)
        lamps = (v > 0.48) & (v < 0.6) & (edge > 0.7)
        plate = (v > 0.6) & (v < 0.7) & (edge < 0.25)
        lamp = np.array([0.65, 0.08, 0.08], np.float32) * np.float32(rng.uniform(0.5, 1.3))
        paint = _layers(body, (window, glass), (lamps, lamp), (plate, 0.75), (v > 0.8, 0.08))
    else:
        v, u = _box(1.45 * scale, 4.2 * scale)
        cabin = (np.abs(u + 0.05) < 0.42 + 0.5 * v) & (v < 0.5)
        wheels = ((np.abs(u) - 0.6) / 0.155) ** 2 + ((v - 0.78) / 0.22) ** 2 < 1
        mask = cabin | ((v >= 0.42) & (v < 0.84)) | wheels
        window = (np.abs(u + 0.05) < 0.3 + 0.5 * v) & (v > 0.1) & (v < 0.42) & (np.abs(u + 0.05) > 0.03)
        paint = _layers(body, (window, glass), (wheels, 0.07))
    return [_standing(cl.CAR, mask, foot, x, paint)]


def fence(rng: np.random.Generator, kit: Kit, layout: Layout, scale: float, side: int, inner: bool) -> list[Part]:
    """A railing along a pavement, receding from `scale` to about half of it: by the houses, or by the kerb."""
    lateral = layout.kerb[side] if inner else layout.wall[side] * 0.97
    lateral = lateral if abs(lateral) > 1.2 else np.copysign(1.2, 2 * side - 1)
    far = scale * rng.uniform(0.42, 0.6)
    edges = sorted((layout.vx + lateral * far, layout.vx + lateral * scale))
    first, last = max(0, int(edges[0])), min(layout.width, int(edges[1]) + 1)
    if last <= first:
        return []
    scales = np.clip((np.arange(first, last, dtype=np.float32) + 0.5 - layout.vx) / lateral, far, scale)
    height = rng.uniform(1.0, 1.6)
    base = layout.horizon + layout.eye * scales
    top = int(np.floor((base - height * scales).min()))
    bottom = min(layout.height, int(np.ceil(base.max())))
    if bottom <= top:
        return []
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5)[:, None]
    above = (base - y) / scales
    mask = (above >= 0) & (above < height)
    period = rng.uniform(0.25, 0.6)
    bars = (layout.focal / scales) % period < 0.4 * period
    fade = np.clip(scales * period * 1.2 - 0.6, 0, 1)
    rails = (np.abs(above - height) < 0.16) | (np.abs(above - 0.15) < 0.1)
    cover = np.maximum(rails, bars * fade + 0.45 * (1 - fade)).astype(np.float32)
    color = next(kit.colors)
    density = np.float32(rng.uniform(0.75, 1.0))

    def paint(behind: Floats, field: Floats) -> Floats:
        return np.asarray(behind + (density * cover)[..., None] * (color - behind), dtype=np.float32)

    return [Part(cl.FENCE, mask, top, first, paint)]


def pole(rng: np.random.Generator, kit: Kit, scale: float, foot: float, x: float) -> list[Part]:
    """A lamp post or a mast, some with an arm."""
    tall = rng.uniform(4.5, 7)
    rows, thick = max(3, round(tall * scale)), max(1, round(rng.uniform(0.12, 0.22) * scale))
    reach = round(rng.uniform(0.6, 1.6) * scale) if rng.random() < 0.5 else 0
    mask = np.zeros((rows, thick + 2 * reach), bool)
    mask[:, reach : reach + thick] = True
    if reach:
        arm = slice(0, reach) if rng.random() < 0.5 else slice(reach, None)
        mask[: max(1, thick), arm] = True
    return [_standing(cl.POLE, mask, foot, x, _layers(next(kit.colors) * 0.8, relief=0.08))]


def person(rng: np.random.Generator, kit: Kit, scale: float, foot: float, x: float) -> list[Part]:
    """A standing or walking person."""
    v, u = _box(rng.uniform(1.5, 1.85) * scale, rng.uniform(0.55, 0.75) * scale)
    stride = rng.uniform(0.05, 0.5)
    head = (u / 0.36) ** 2 + ((v - 0.08) / 0.085) ** 2 < 1
    torso = (np.abs(u) < 0.42 + 0.9 * np.clip(v - 0.14, 0, 0.22)) & (v > 0.15) & (v < 0.54)
    legs = (np.abs(np.abs(u) - stride * (v - 0.5) * 2) < 0.32) & (v >= 0.5)
    skin = np.float32(rng.uniform(0.25, 0.85)) * np.array([1, 0.8, 0.68], np.float32)
    paint = _layers(next(kit.colors), (v < 0.16, skin), (v > 0.52, next(kit.colors) * 0.7), (v > 0.95, 0.08))
    return [_standing(cl.PERSON, head | torso | legs, foot, x, paint)]


def sign(rng: np.random.Generator, kit: Kit, scale: float, foot: float, x: float) -> list[Part]:
    """A traffic sign on its post; the post is a pole."""
    v, u = _box(0.75 * scale, 0.75 * scale)
    w = 2 * v - 1
    kind = int(rng.integers(4))
    if kind == 0:
        size: NDArray[np.floating] = np.sqrt(u**2 + w**2)
    elif kind == 1:
        size = np.abs(u) + 1 - v  # triangle, point up
    elif kind == 2:
        size = np.abs(u) + np.abs(w)
    else:
        size = np.maximum(np.abs(u), np.abs(w)) * 1.02
    plate = size <= 1
    rim = next(kit.colors) if rng.random() < 0.5 else np.array([0.7, 0.1, 0.1], np.float32)
    inside = (size < 0.62).astype(np.float32)
    mark = (np.abs(u) < 0.16) & (np.abs(w) < 0.4)
    face = np.full(3, rng.uniform(0.6, 0.95), np.float32) if rng.random() < 0.6 else next(kit.colors)
    rise = round(rng.uniform(1.8, 2.6) * scale)
    post = np.ones((max(1, rise), max(1, round(0.08 * scale))), bool)
    return [
        _standing(cl.POLE, post, foot, x, _layers(np.full(3, rng.uniform(0.25, 0.65), np.float32))),
        _standing(cl.SIGN, plate, foot - rise, x, _layers(rim, (inside, face), (mark, 0.1))),
    ]


def bicycle(rng: np.random.Generator, kit: Kit, scale: float, foot: float, x: float) -> list[Part]:
    """A bicycle from the side: the whole silhouette is labelled, the background shows through."""
    v, u = _box(1.05 * scale, 1.75 * scale * rng.uniform(0.75, 1))
    radius = np.sqrt(((np.abs(u) - 0.6) / 0.39) ** 2 + ((v - 0.67) / 0.33) ** 2)
    hub = (np.abs(u) < 0.6) & (v > 0.28) & (v < 0.72) & (np.abs(u) < 0.28 + 0.7 * v)
    bars = (np.abs(u - 0.42) < 0.14) & (v < 0.32) | (np.abs(u + 0.3) < 0.16) & (v > 0.12) & (v < 0.3)
    mask = (radius < 1) | hub | bars
    line = max(0.09, 0.9 / u.size)
    frame = (np.abs(np.abs(u + 0.1) * 1.1 - (0.72 - v)) < 1.6 * line) | (np.abs(v - 0.36) < line) & hub
    ring = np.abs(radius - 0.86) < max(0.14, 1.6 / v.size)
    cover = np.clip(np.maximum(ring, (frame & hub) | bars) * 1.0 + 0.12, 0, 1).astype(np.float32)
    color = next(kit.colors) * 0.7

    def paint(behind: Floats, field: Floats) -> Floats:
        over = np.where(ring[..., None], np.float32(0.08), color)
        return np.asarray(behind + cover[..., None] * (over - behind), dtype=np.float32)

    return [_standing(cl.BICYCLE, mask, foot, x, paint)]


def train(rng: np.random.Generator, kit: Kit, scale: float, foot: float, x: float) -> list[Part]:
    """A tram coming towards the camera, or (one in three) crossing."""
    body, stripe = next(kit.colors), next(kit.colors)
    glass = np.full(3, rng.uniform(0.06, 0.3), np.float32)
    if rng.random() < 0.66:
        v, u = _box(3.5 * scale, 2.6 * scale)
        edge = np.abs(u)
        mask = (edge < 0.8 + 1.6 * v) & ((v < 0.95) | (edge < 0.8))
        window = (v > 0.16) & (v < 0.5) & (edge < 0.85) & (np.abs(v - 0.21) > 0.02)
        lamps = ((edge - 0.65) / 0.13) ** 2 + ((v - 0.75) / 0.05) ** 2 < 1
        paint = _layers(body, (window, glass), ((v > 0.55) & (v < 0.64), stripe), (lamps, 0.95), (v > 0.9, 0.12))
    else:
        v, u = _box(2.9 * scale, 7.5 * scale)
        mask = np.broadcast_to((v > 0) & (np.abs(u) < 0.96 + 0.2 * v), (v.size, u.size))
        window = (v > 0.2) & (v < 0.52) & ((u * 4.5) % 1 < 0.82)
        doors = (v > 0.16) & (v < 0.9) & (np.abs(np.abs(u) - 0.45) < 0.05)
        paint = _layers(body, (window, glass), ((v > 0.6) & (v < 0.7), stripe), (doors, 0.25), (v > 0.9, 0.1))
    return [_standing(cl.TRAIN, np.array(mask), foot, x, paint)]


Draw = Callable[[np.random.Generator, Kit, float, float, float], list[Part]]
STANDING: dict[int, Draw] = {
    cl.VEGETATION: tree,
    cl.CAR: car,
    cl.POLE: pole,
    cl.PERSON: person,
    cl.SIGN: sign,
    cl.BICYCLE: bicycle,
    cl.TRAIN: train,
}
