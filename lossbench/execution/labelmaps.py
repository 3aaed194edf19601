"""Predicted label maps as files, in the forms that viewers and official evaluators read."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import ConfigError, SetupError

#: (file below the output folder, picture) of an image's name and its predicted class indices (H, W) uint8.
Format = Callable[[str, NDArray[np.uint8]], tuple[str, Image.Image]]
_FRAME = re.compile(r"[^/_]+_\d{6}_\d{6}\Z")


def png(dataset: SegmentationDataset) -> Format:
    """Class indices as an 8-bit palette PNG in the dataset's colours, named as the image."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: dataset.num_classes] = dataset.colors

    def encode(name: str, labels: NDArray[np.uint8]) -> tuple[str, Image.Image]:
        picture = Image.fromarray(labels)
        picture.putpalette(palette.tobytes())
        return f"{name}.png", picture

    return encode


def cityscapes(dataset: SegmentationDataset) -> Format:
    """The dataset's own label ids (not train ids) as 8-bit grey PNGs `{city}_{sequence}_{frame}_pred_labelIds.png`, all
    in one folder: what cityscapesscripts' evaluator finds and the server takes.

    Raises ConfigError when the dataset has no label ids of its own.
    """
    ids = np.array(getattr(dataset, "official_ids", ()), np.uint8)
    if len(ids) != dataset.num_classes:
        raise ConfigError(
            "only a dataset with Cityscapes' label ids can be written as cityscapes", hint="use --format png"
        )

    def encode(name: str, labels: NDArray[np.uint8]) -> tuple[str, Image.Image]:
        frame = name.rpartition("/")[2]
        if not _FRAME.match(frame):
            raise ConfigError(f"image '{name}' is not named as Cityscapes' are", hint="use --format png")
        return f"{frame}_pred_labelIds.png", Image.fromarray(ids[labels])

    return encode


FORMATS: Mapping[str, Callable[[SegmentationDataset], Format]] = {"cityscapes": cityscapes, "png": png}


class LabelMapWriter:
    """Writes predictions into a folder that appears when all are there: an interrupted run leaves no half.

    Args:
        folder: where they go. Raises ConfigError when something is in it, or nothing is above it.
        names: of the images, by index.
    """

    def __init__(self, folder: Path, names: Sequence[str], form: Format) -> None:
        self.folder, self._names, self._form = folder, names, form
        try:
            self.folder = folder = folder.resolve()  # `.` and `..` have no name to put another beside
            if folder.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))  # from Python 3.13 on, `resolve` lets it pass
            if not folder.name:
                raise ConfigError(f"{folder} is a root", hint="give a folder below it as --out")
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ConfigError(f"{folder} is not empty", hint="give another --out, or remove it")
            self._partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
            self._partial.mkdir(parents=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, to Python 3.12
            raise self._unwritable(error) from None

    def __call__(self, index: int, labels: NDArray[np.uint8]) -> None:
        """Write the prediction (H, W) of an image. Raises SetupError."""
        file, picture = self._form(self._names[index], labels)
        path = self._partial / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        except OSError as error:
            raise self._unwritable(error) from None

    def finish(self) -> None:
        """Move them into place. Raises SetupError."""
        try:
            if self.folder == Path.cwd():  # replaced, it would be gone under the feet of the user's shell
                for entry in list(self._partial.iterdir()):
                    entry.rename(self.folder / entry.name)
                self._partial.rmdir()
                return
            if self.folder.is_dir():
                self.folder.rmdir()
            self._partial.rename(self.folder)
        except OSError as error:
            raise self._unwritable(error) from None

    def abandon(self) -> None:
        """Remove what was written so far."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def _unwritable(self, error: OSError | RuntimeError) -> SetupError:
        why = getattr(error, "strerror", None) or error
        return SetupError(f"cannot write predictions to {self.folder} ({why})")
