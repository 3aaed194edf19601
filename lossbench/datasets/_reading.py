"""Reading image and mask files for datasets: every failure is a DataError that names the file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lossbench.datasets.base import IGNORE_INDEX
from lossbench.errors import DataError

#: What counts as an image or mask when a folder is listed.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif"})
#: In a look-up table: an id no class has and nobody asked to ignore.
UNKNOWN = 254


def list_images(folder: Path) -> list[Path]:
    """Image files in a folder and its sub-folders, sorted; hidden files (`._x.png`, thumbnails) left out."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _decode(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
            return image.copy()
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{file}: not an image", hint="replace the file or leave it out") from None
    # Pillow reports damage as OSError (truncated), SyntaxError (broken PNG) or ValueError, by format.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: corrupt image ({error})", hint="fetch or export the file again") from None


def read_image(file: Path) -> NDArray[np.uint8]:
    """A file as (H, W, 3) uint8 RGB. 16-bit greys keep their high byte. Raises DataError."""
    image = _decode(file)
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        image = Image.fromarray((grey >> 8 if grey.max(initial=0) > 255 else grey).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def read_mask(file: Path) -> NDArray[Any]:
    """A mask file as it stands: (H, W) integer ids (grey, 16-bit grey, palette indices, 1-bit as 0 and 1), or
    (H, W, 3) uint8 when it is an RGB picture (an opaque alpha channel is dropped). Raises DataError."""
    image = _decode(file)
    if image.mode in ("L", "P", "1"):
        return np.asarray(image).astype(np.uint8, copy=False)
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.int64)
    if image.mode == "LA":
        return np.asarray(image)[..., 0]
    if image.mode in ("RGB", "RGBA"):
        return np.asarray(image)[..., :3]
    raise DataError(f"{file}: a mask of mode '{image.mode}'", hint="save masks as grey, palette or RGB PNG")


def id_table(ids: Sequence[Collection[int]], ignore: Collection[int]) -> NDArray[np.uint8]:
    """Look-up table from raw id to class index (the position in `ids`), IGNORE_INDEX, or UNKNOWN."""
    top = max((i for group in (*ids, ignore) for i in group), default=0)
    table = np.full(max(top + 1, 256), UNKNOWN, np.uint8)
    table[list(ignore)] = IGNORE_INDEX
    for index, group in enumerate(ids):
        table[list(group)] = index
    return table


def map_ids(raw: NDArray[Any], table: NDArray[np.uint8], file: Path, expected: str) -> NDArray[np.uint8]:
    """Raw ids (H, W) through `table`. Raises DataError with the offending ids and the number of their pixels."""
    inside = raw if raw.dtype == np.uint8 else np.where((raw >= 0) & (raw < len(table)), raw, -1)
    target: NDArray[np.uint8] = table[inside]
    if inside is not raw:
        target[inside < 0] = UNKNOWN
    bad = target == UNKNOWN
    if bad.any():
        found = np.unique(raw[bad])
        shown = ", ".join(str(i) for i in found[:8]) + (", ..." if len(found) > 8 else "")
        raise DataError(
            f"{file}: id {shown} out of range in {int(bad.sum())} of {raw.size} pixels (expected {expected})",
            hint="fix the mask, or name these ids among the classes or the ignored ones",
        )
    return target


def same_size(image: NDArray[np.uint8], target: NDArray[Any], image_file: Path, mask_file: Path) -> None:
    """Raises DataError with both files and both sizes when image and mask differ in size."""
    if image.shape[:2] != target.shape[:2]:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (image, target)]
        raise DataError(
            f"{mask_file}: the mask is {sizes[1]}, its image {image_file} is {sizes[0]} (width x height)",
            hint="export the mask at the image's size",
        )
