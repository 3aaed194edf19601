"""`streets`: generated street scenes whose class imbalance is a dial. Needs no download."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets.base import SegmentationDataset
from lossbench.datasets.streetscene import classes as cl
from lossbench.datasets.streetscene.labels import flip_labels
from lossbench.datasets.streetscene.plan import MIN_THINGS, calibrate, thing_counts
from lossbench.datasets.streetscene.render import render
from lossbench.errors import DataError, ParameterError
from lossbench.registry import register_dataset

#: Bumped by hand whenever the same parameters give other images.
GENERATOR_VERSION = 1
_SPLIT_STREAMS = {"train": 1, "val": 2}


@register_dataset("streets")
class Streets(SegmentationDataset):
    """Generated street scenes, 12 classes: class imbalance, size of rare things and label noise are dials.

    A perspective street canyon with lights, shadows, textures, occlusion and sensor noise. Buildings, cars, clothes,
    signs, fences and trains share one distribution of colors, so that shape, texture and context must be learnt.
    The same parameters give the same images on any machine, bit for bit up to the rounding of its floating point.

    Args:
        height, width: pixels of an image.
        train_images, val_images: number of images.
        imbalance: ratio of the pixels of the commonest to those of the rarest class over the train split; the
            classes between them decay geometrically.
        tail_size: factor on the linear size of rare things; there are fewer of them in return.
        label_noise: share of labelled training pixels, in patches, that get the label of another class.
        seed: of the scenes. Repetitions of a suite should share the images: leave it alone there.

    Raises:
        ParameterError: a parameter is out of its range.
    """

    licence: ClassVar[str] = "generated; no restrictions"
    how_to_get: ClassVar[str] = "nothing to get: it is generated"

    def __init__(
        self,
        *,
        height: int = 96,
        width: int = 192,
        train_images: int = 300,
        val_images: int = 100,
        imbalance: float = 100.0,
        tail_size: float = 1.0,
        label_noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        for name, low, high in (
            ("height", 32, 4096),
            ("width", 32, 8192),
            ("train_images", 1, 1_000_000),
            ("val_images", 1, 1_000_000),
            ("imbalance", 5.0, 10_000.0),
            ("tail_size", 0.25, 4.0),
            ("label_noise", 0.0, 0.9),
            ("seed", 0, 2**63),
        ):
            if not low <= self._parameters[name] <= high:
                raise ParameterError(
                    f"streets: '{name}' must lie in {low:g}..{high:g}, got {self._parameters[name]:g}", parameter=name
                )
        self.height, self.width, self.seed = height, width, seed
        self.imbalance, self.tail_size, self.label_noise = float(imbalance), float(tail_size), float(label_noise)
        self._lengths = {"train": train_images, "val": val_images}
        self.class_names = cl.NAMES
        self.colors = cl.COLORS

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._parameters,)

    def _length(self, split: str) -> int:
        if split not in self._lengths:
            raise DataError(f"streets has no split '{split}'", hint="its splits are train and val")
        return self._lengths[split]

    def names(self, split: str) -> list[str]:
        """`train_00000`, ... Raises DataError on another split than train and val."""
        return [f"{split}_{index:05d}" for index in range(self._length(split))]

    def files(self, split: str) -> list[Path]:
        """None: everything is generated."""
        self._length(split)
        return []

    def fingerprint(self, split: str) -> str:
        """12 hex digits over the parameters that change this split's images, and GENERATOR_VERSION."""
        relevant = {k: v for k, v in self._parameters.items() if not k.endswith("_images")}
        relevant["images"] = self._length(split)
        text = json.dumps([GENERATOR_VERSION, split, relevant], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def _plan(self) -> Any:
        """Calibrated knobs, and per split the things of every image and the factors on their areas."""
        knobs = calibrate(self.imbalance, self.tail_size, self.width / self.height)
        counts, factors = {}, {}
        for split, images in self._lengths.items():
            totals = {c: rate * images for c, rate in knobs.rates.items()}
            counts[split] = thing_counts(self._rng(split, 0, 1), images, totals)
            # Where a small split would have a fraction of a thing, it gets several small ones instead: the dial is
            # about pixels of the training split. For scoring, things keep their natural size.
            factors[split] = (
                {c: min(1.0, total / MIN_THINGS) for c, total in totals.items()} if split == "train" else {}
            )
        return knobs, counts, factors

    def _rng(self, split: str, index: int, purpose: int) -> np.random.Generator:
        sequence = np.random.SeedSequence((self.seed, _SPLIT_STREAMS[split], purpose, index))
        return np.random.Generator(np.random.Philox(sequence))

    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Generate image (H, W, 3) and target (H, W); the camera car's bonnet, where visible, is 255.
        Raises DataError on an unknown split."""
        if not 0 <= index < self._length(split):
            raise IndexError(f"image {index} of {self._length(split)}")
        knobs, counts, factors = self._plan
        image, target = render(
            self._rng(split, index, 0),
            knobs,
            {c: int(n[index]) for c, n in counts[split].items()},
            self.height,
            self.width,
            area_factors=factors[split],
        )
        if split == "train" and self.label_noise > 0:
            target = flip_labels(self._rng(split, index, 2), target, self.label_noise, len(cl.NAMES))
        return image, target


def _rebuild(parameters: dict[str, Any]) -> Streets:
    return Streets(**parameters)
