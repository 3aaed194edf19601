"""The geometry of a scene: a pinhole camera in a street canyon.

Metres are lateral X (right positive, 0 at the camera), height above ground, and depth Z. The scale at depth Z is
s = f / Z pixels a metre, so a point (X, height, Z) is seen at x = vx + X s, y = horizon + (eye - height) s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_THIRDS = np.array([0, 1 / 3, 2 / 3], np.float32)


@dataclass(frozen=True)
class Knobs:
    """What the calibration turns so that shares of pixels meet the dial.

    Attributes:
        ground: share of the image below the horizon.
        pavement: share of the street's width that is pavement.
        walls: factor on the buildings' heights.
        rates: things of each class per image, by class.
        areas: share of the image one thing covers, by class.
    """

    ground: float
    pavement: float
    walls: float
    rates: dict[int, float]
    areas: dict[int, float]


@dataclass(frozen=True)
class Layout:
    """One street. Lateral positions in metres, `horizon` and `vx` (vanishing point) in pixels."""

    height: int
    width: int
    horizon: float
    vx: float
    eye: float
    focal: float
    wall: tuple[float, float]
    kerb: tuple[float, float]
    #: Pixels a metre at the far end of the street.
    far: float

    @property
    def near(self) -> float:
        """Pixels a metre at the bottom of the image."""
        return (self.height - self.horizon) / self.eye

    def foot(self, scale: float) -> float:
        """The row where something at this scale stands on the ground."""
        return self.horizon + self.eye * scale


def sample_layout(rng: np.random.Generator, knobs: Knobs, height: int, width: int) -> Layout:
    """Draw a street: `knobs.ground` and `knobs.pavement` are its expectations."""
    ground = float(np.clip(knobs.ground + rng.uniform(-0.05, 0.05), 0.2, 0.8))
    half = rng.uniform(7.0, 11.0)
    camera = rng.uniform(-0.22, 0.22) * half  # the camera car is not in the middle
    wall = (-half - camera, half - camera)
    share = knobs.pavement * rng.uniform(0.7, 1.3)
    left = share * half * rng.uniform(0.8, 1.2)
    right = max(0.0, 2 * share * half - left)
    return Layout(
        height=height,
        width=width,
        horizon=(1 - ground) * height,
        vx=width * rng.uniform(0.36, 0.64),
        eye=rng.uniform(1.8, 2.5),
        focal=1.0 * height,
        wall=wall,
        kerb=(wall[0] + min(left, 0.9 * half), wall[1] - min(right, 0.9 * half)),
        far=0.02 * height,
    )


@lru_cache(maxsize=64)
def _widen(coarse: int, fine: int) -> Floats:
    """Matrix (fine, coarse) of linear interpolation between evenly spaced knots."""
    place = np.linspace(0, coarse - 1, fine)
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(coarse)[None])), dtype=np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Floats:
    """Value noise (H, W) with about `cells` cells along the height, mean 0, knots of unit variance."""
    rows, columns = cells + 1, max(2, round(cells * width / height) + 1)
    knots = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(_widen(rows, height) @ knots @ _widen(columns, width).T)


def materials(rng: np.random.Generator, count: int) -> Floats:
    """RGB (count, 3) in 0..1 of things built, painted or worn. Buildings, cars, clothes, fences, trains and signs
    all draw from this one distribution, so color tells little about which of them a pixel is."""
    kind, saturation, hue, red, blue = rng.random((5, count, 1), dtype=np.float32)
    value = 0.12 + 0.8 * rng.random((count, 1), dtype=np.float32)
    warm = 0.06 * rng.standard_normal((count, 1), dtype=np.float32)
    stone = value * np.hstack([1 + warm, np.ones_like(warm), 1 - warm])  # stone, concrete, grey paint
    brick = value * np.hstack([np.ones_like(red), 0.6 + 0.25 * red, 0.4 + 0.3 * blue])  # brick, wood, earth
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (hue + _THIRDS))
    paint = value * (1 - (0.3 + 0.5 * saturation) * wave)
    color = np.where(kind < 0.5, stone, np.where(kind < 0.72, brick, paint))
    return np.asarray(np.clip(color, 0.02, 0.98), dtype=np.float32)
