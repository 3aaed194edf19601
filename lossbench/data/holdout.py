"""The hold-out: a part of the training split that trials of a search are scored on, so that no search ever sees the
split that is reported.

Which images are held out is a function of their names and a seed alone: the same for every loss, on any machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lossbench.cells import short_hash
from lossbench.data.cache import CachedSplit, open_split
from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import ConfigError
from lossbench.protocol import Protocol


def held_out(names: Sequence[str], share: float, seed: int) -> list[int]:
    """Indices of the images to hold out, rising: the `share` (rounded, at least one) whose names hash lowest with the
    seed. An image's rank does not depend on the order of the others. Raises ConfigError when none would be left."""
    count = max(1, round(share * len(names)))
    if count >= len(names):
        raise ConfigError(
            f"a hold-out of {share:g} leaves none of {len(names)} training images", hint="lower tune.holdout"
        )
    ranked = sorted(range(len(names)), key=lambda index: hashlib.sha256(f"{seed}\0{names[index]}".encode()).hexdigest())
    return sorted(ranked[:count])


class SplitPart(CachedSplit):
    """Some images of a decoded split, in its order. Raises DamagedCache as `CachedSplit`.

    Args:
        indices: of these images in the split.
    """

    def __init__(self, folder: Path, indices: Sequence[int]) -> None:
        super().__init__(folder)
        self._places = tuple(indices)
        self.names = tuple(self.names[index] for index in indices)
        self.sizes = self.sizes[list(indices)]
        self.fingerprint = short_hash([self.fingerprint, list(indices)])[:12]
        counts = np.zeros(self.num_classes, np.int64)
        for index in range(len(self)):
            counts += np.bincount(self.target(index).ravel(), minlength=256)[: len(counts)]
        self.class_counts = counts

    def __reduce__(self) -> tuple[type[CachedSplit], tuple[Path, tuple[int, ...]]]:  # type: ignore[override]
        return type(self), (self.folder, self._places)

    def _span(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        place = self._places[index]
        return int(self._offsets[place]), int(self._offsets[place + 1])


def scored_part(protocol: Protocol) -> str:
    """The key of `open_parts` that is scored."""
    return protocol.eval_split if protocol.holdout is None else f"{protocol.train_split} (held out)"


def open_parts(
    dataset: SegmentationDataset, protocol: Protocol, *, cache_root: Path, say: Callable[[str], None]
) -> dict[str, CachedSplit]:
    """What a cell trains on (`protocol.train_split`) and what it is scored on (`scored_part`), mapped into memory. With
    a hold-out no other split than the training one is opened, nor asked for its names. Raises as `open_split`."""
    if protocol.holdout is None:
        return {
            split: open_split(dataset, split, cache_root=cache_root, say=say).hold()
            for split in (protocol.train_split, protocol.eval_split)
        }
    whole = open_split(dataset, protocol.train_split, cache_root=cache_root, say=say)
    apart = held_out(whole.names, protocol.holdout, protocol.holdout_seed)
    kept = sorted(set(range(len(whole))) - set(apart))
    return {
        protocol.train_split: SplitPart(whole.folder, kept).hold(),
        scored_part(protocol): SplitPart(whole.folder, apart).hold(),
    }
