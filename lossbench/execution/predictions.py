"""Predicted label maps on disk (`--keep predictions`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class PredictionWriter:
    """Writes predicted ids as 8-bit grey PNGs, one per image, named as the image."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names

    def __call__(self, index: int, labels: NDArray[np.uint8]) -> None:
        path = (self._folder / self._names[index]).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
