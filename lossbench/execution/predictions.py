"""Predicted label maps on disk: of a few fixed images of every run, for figures; of all with `--keep predictions`.

    runs/<id>/predictions/<image>.png    palette PNG, train ids, the dataset's colours
    runs/<id>/predictions/index.json     {"split", "fingerprint", "shown": [names]}, written last

Which images are shown is a function of the truth of the scored split alone, so that it is the same for every loss.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lossbench.data.cache import CachedSplit
from lossbench.execution.spec import KEEP_IMAGES

INDEX = "index.json"
#: Only every so many-th pixel in both directions is looked at to see which classes an image holds.
_STRIDE = 4


def shown_images(holds: NDArray[np.bool_], count: int = KEEP_IMAGES) -> list[int]:
    """Indices of the images to show, rising: one of each of `count` equal stretches of the split, so that the scenes
    differ; within a stretch the one of the most and the rarest classes (the sum over its classes of one over the
    number of images that hold the class); of equals the first.

    Args:
        holds: (n, C), whether an image's truth holds a class.
    """
    images = len(holds)
    worth = holds @ (1 / np.maximum(holds.sum(axis=0), 1))
    stretches = np.array_split(np.arange(images), min(count, images)) if count and images else []
    # Rounded: sums of equal terms in another order may differ in the last bit.
    return [int(stretch[np.argmax(np.round(worth[stretch], 9))]) for stretch in stretches]


def classes_held(split: CachedSplit) -> NDArray[np.bool_]:
    """(n, C), whether the truth of an image holds a class, on a coarse grid of its pixels."""
    grids = (split.target(index)[::_STRIDE, ::_STRIDE].ravel() for index in range(len(split)))
    counts = [np.bincount(grid, minlength=256)[: split.num_classes] for grid in grids]
    return np.asarray(counts, dtype=np.int64) > 0


class PredictionWriter:
    """Writes predicted ids as palette PNGs, one per image, named as the image.

    Args:
        folder: created, with sub-folders where names have slashes.
        names: of all images of the split.
        only: indices of the images to write; None: all.
        colors: RGB of each class; None: grey PNGs.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        only: Collection[int] | None = None,
        colors: Sequence[tuple[int, int, int]] | None = None,
    ) -> None:
        self._folder, self._names, self._only = folder, names, only
        self._palette = None if colors is None else np.asarray(colors, np.uint8).ravel().tolist()

    def __call__(self, index: int, labels: NDArray[np.uint8]) -> None:
        if self._only is not None and index not in self._only:
            return
        picture = Image.fromarray(labels)
        if self._palette is not None:
            picture.putpalette(self._palette)
        content = io.BytesIO()
        picture.save(content, "png")
        path = prediction_file(self._folder, self._names[index])
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content.getvalue())


def prediction_file(folder: Path, name: str) -> Path:
    """Where the prediction of an image lies. (Not `with_suffix`: names may hold dots.)"""
    return folder / f"{name}.png"


class KeptPredictions:
    """The predictions that a run leaves in its folder; those of an earlier try are removed.

    Args:
        run_dir: the run folder.
        split: what is scored.
        images: how many fixed images to show (see `shown_images`).
        everything: keep the predictions of all images.
        clean: remove those of an earlier try; of several processes that write, the first to get here does.
    """

    def __init__(
        self,
        run_dir: Path,
        split: CachedSplit,
        *,
        images: int = KEEP_IMAGES,
        everything: bool = False,
        clean: bool = True,
    ) -> None:
        self.folder, self._split, self._everything = run_dir / "predictions", split, everything
        self._shown = shown_images(classes_held(split), images) if images else []
        if clean:
            shutil.rmtree(self.folder, ignore_errors=True)

    def writer(self, colors: Sequence[tuple[int, int, int]]) -> PredictionWriter | None:
        """What `evaluate` hands predictions to; None when nothing is kept."""
        if not self._shown and not self._everything:
            return None
        only = None if self._everything else set(self._shown)
        return PredictionWriter(self.folder, self._split.names, only=only, colors=colors)

    def finish(self, split: str) -> None:
        """Say that all are written. Args: `split`, its name."""
        if self._shown:
            shown = [self._split.names[index] for index in self._shown]
            facts = {"split": split, "fingerprint": self._split.fingerprint, "shown": shown}
            _replace(self.folder / INDEX, (json.dumps(facts, indent=1) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
