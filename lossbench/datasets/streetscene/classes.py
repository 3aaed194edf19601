"""The classes of a street scene, commonest first, and the shares of pixels the dial asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NAMES = (
    "road",
    "building",
    "sky",
    "vegetation",
    "pavement",
    "car",
    "fence",
    "pole",
    "person",
    "sign",
    "bicycle",
    "train",
)
COLORS = (
    (128, 64, 128),
    (70, 70, 70),
    (70, 130, 180),
    (107, 142, 35),
    (244, 35, 232),
    (0, 0, 142),
    (190, 153, 153),
    (153, 153, 153),
    (220, 20, 60),
    (220, 220, 0),
    (119, 11, 32),
    (0, 80, 100),
)
ROAD, BUILDING, SKY, VEGETATION, PAVEMENT, CAR, FENCE, POLE, PERSON, SIGN, BICYCLE, TRAIN = range(len(NAMES))
#: Drawn one by one, so that their number per image can be set; the others are surfaces.
THINGS = (VEGETATION, CAR, FENCE, POLE, PERSON, SIGN, BICYCLE, TRAIN)
#: The rare half of the classes, which `tail_size` scales.
TAIL = (FENCE, POLE, PERSON, SIGN, BICYCLE, TRAIN)
#: The camera car's bonnet and what noise nobody labelled.
VOID = 255

#: Mean share of an image that one thing covers when nothing hides it, at an imbalance of 100 and tail_size 1.
_AREAS = {
    VEGETATION: 0.05,
    CAR: 0.026,
    FENCE: 0.030,
    POLE: 0.0062,
    PERSON: 0.0058,
    SIGN: 0.0038,
    BICYCLE: 0.0065,
    TRAIN: 0.045,
}
#: Of a class's share, this power goes into the size of its things and the rest into their number.
_SIZE_POWER = 0.4
_REFERENCE = 100.0
#: An image never needs more things of a class than this: they grow instead.
_MOST_THINGS = 8


def target_shares(imbalance: float) -> NDArray[np.float64]:
    """Shares (C,) of labelled pixels: a geometric decay from the commonest to the rarest, whose ratio is
    `imbalance`; sums to 1 (the long-tailed profile of Cui et al. 2019, eq. of section 5.1, on pixels)."""
    shares = imbalance ** -np.linspace(0, 1, len(NAMES))
    return np.asarray(shares / shares.sum())


def thing_areas(imbalance: float, tail_size: float) -> dict[int, float]:
    """Mean area of one thing of each class, as a share of the image, before occlusion. `tail_size` gives way where
    an image would need a crowd of tiny things to reach the share of their class."""
    shares = target_shares(imbalance)
    relative = shares / target_shares(_REFERENCE)
    return {
        c: max(
            area * float(relative[c]) ** _SIZE_POWER * (tail_size**2 if c in TAIL else 1.0),
            float(shares[c]) / _MOST_THINGS,
        )
        for c, area in _AREAS.items()
    }
