"""Random scale, crop, flip and photometric jitter: drawn as plain numbers first, applied by a pure function.

The source window of a crop is cut out before anything is resized, so the cost follows the crop, not the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lossbench.data.color import jitter
from lossbench.datasets.base import IGNORE_INDEX
from lossbench.protocol import Protocol

#: Padding: ImageNet's mean color (0.485, 0.456, 0.406) in 0..255, so that it is about 0 once normalised.
MEAN_COLOR = (124, 116, 104)


@dataclass(frozen=True)
class AugmentParams:
    """What happens to one image, in the order of the fields.

    Attributes:
        window: (top, left, height, width) in source pixels.
        size: (height, width) the window is resized to; at most the crop.
        flip: mirror left and right.
        brightness, contrast, saturation: factors, 1 = unchanged; applied in this order.
        crop: (height, width) of the result.
        offset: (top, left) of the resized window in the crop; the rest is padding.
    """

    window: tuple[int, int, int, int]
    size: tuple[int, int]
    flip: bool
    brightness: float
    contrast: float
    saturation: float
    crop: tuple[int, int]
    offset: tuple[int, int]


def sample_params(rng: np.random.Generator, size: tuple[int, int], protocol: Protocol) -> AugmentParams:
    """Draw the augmentation of an image of `size` (H, W). Takes exactly nine numbers from `rng`, whatever it draws.

    The scale is log-uniform in `protocol.scale`; the window is uniform over the image; where the scaled image is
    smaller than the crop, it lies at a uniform offset in the padding. Jitter factors are uniform in
    [1 - jitter, 1 + jitter].
    """
    draws = rng.random(9).tolist()
    low, high = protocol.scale
    scale = math.exp(math.log(low) + draws[0] * (math.log(high) - math.log(low)))
    rows = _axis(size[0], protocol.crop[0], scale, draws[1], draws[2])
    columns = _axis(size[1], protocol.crop[1], scale, draws[3], draws[4])
    jitter = [1 + protocol.jitter * (2 * draw - 1) for draw in draws[5:8]]
    return AugmentParams(
        window=(rows[0], columns[0], rows[1], columns[1]),
        size=(rows[2], columns[2]),
        flip=draws[8] < protocol.flip,
        brightness=jitter[0],
        contrast=jitter[1],
        saturation=jitter[2],
        crop=(protocol.crop[0], protocol.crop[1]),
        offset=(rows[3], columns[3]),
    )


def _axis(length: int, crop: int, scale: float, where: float, offset: float) -> tuple[int, int, int, int]:
    """(start, extent) of the window, its resized extent, and its offset in the crop, along one axis."""
    scaled = max(1, round(length * scale))
    if scaled <= crop:
        return 0, length, scaled, int(offset * (crop - scaled + 1))
    extent = min(length, max(1, round(crop / scale)))
    return int(where * (length - extent + 1)), extent, crop, 0


def apply(
    image: NDArray[np.uint8],
    target: NDArray[np.uint8],
    params: AugmentParams,
    *,
    ignore_index: int = IGNORE_INDEX,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Apply drawn parameters. The arrays (views of a memory map, say) are only read.

    Args:
        image: uint8 (H, W, 3).
        target: uint8 (H, W).
        ignore_index: label of the padding.
        out: where the result goes, e.g. a place in a batch: (3, h, w) uint8 and (h, w) of any integer type.

    Returns:
        `out`, or new tensors: uint8 (3, h, w) in channels-last memory and uint8 (h, w), where (h, w) is
        `params.crop`. Images are resized bilinearly with antialiasing, targets by the nearest pixel (centres
        aligned, as for the image).
    """
    top, left, height, width = params.window
    window = (slice(top, top + height), slice(left, left + width))
    images, targets = out if out is not None else _empty(params.crop)
    if params.size != params.crop:
        images.permute(1, 2, 0).copy_(_mean_row(params.crop[1]).expand(*params.crop, 3))
        targets.fill_(ignore_index)
    rows, columns = (slice(start, start + n) for start, n in zip(params.offset, params.size, strict=True))
    place, target_place = images[:, rows, columns], targets[rows, columns]
    if params.size == (height, width) and (params.brightness, params.contrast, params.saturation) == (1, 1, 1):
        _copy(image[window], target[window], params.flip, place, target_place)
    else:
        pixels, labels = _transform(image[window], target[window], params)
        place.copy_(pixels)
        target_place.copy_(labels)
    return images, targets


def _copy(image: NDArray[np.uint8], target: NDArray[np.uint8], flip: bool, images: Tensor, targets: Tensor) -> None:
    """A window as it is, flipped or not: pixels go from the file straight to their place in the batch."""
    images.permute(1, 2, 0).numpy()[:] = image
    targets.numpy()[:] = target
    if flip:  # after copying: a copy in reverse is many times slower
        images.copy_(images.flip(-1))
        targets.copy_(targets.flip(-1))


def _transform(image: NDArray[np.uint8], target: NDArray[np.uint8], params: AugmentParams) -> tuple[Tensor, Tensor]:
    """A window resized, flipped and jittered."""
    pixels, labels = torch.from_numpy(image.copy()).permute(2, 0, 1), torch.from_numpy(target.copy())
    if params.size != target.shape:
        pixels = _resize(pixels, params.size)
        rows, columns = (nearest(old, new) for old, new in zip(target.shape, params.size, strict=True))
        labels = torch.from_numpy(target.take(rows, axis=0).take(columns, axis=1))
    if params.flip:
        pixels, labels = pixels.flip(-1), labels.flip(-1)
    return jitter(pixels, params.brightness, params.contrast, params.saturation), labels


@lru_cache(maxsize=64)
def _mean_row(width: int) -> Tensor:
    """A row of padding, (width, 3): whole rows are copied an order of magnitude faster than pixels."""
    return torch.tensor(MEAN_COLOR, dtype=torch.uint8).repeat(width, 1)


def _empty(crop: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return torch.empty((*crop, 3), dtype=torch.uint8).permute(2, 0, 1), torch.empty(crop, dtype=torch.uint8)


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with antialiasing (what Pillow does), uint8 (3, H, W) in channels-last memory to the same.
    Without the stride of a batch, torch takes the image for planes and packs it twice (pytorch issue 68430)."""
    batch = pixels.as_strided((1, *pixels.shape), (pixels.numel(), *pixels.stride()))
    return F.interpolate(batch, size, mode="bilinear", align_corners=False, antialias=True)[0]


@lru_cache(maxsize=4096)
def nearest(extent: int, size: int) -> NDArray[np.intp]:
    """Source index of each of `size` pixels along an axis of `extent`: the one whose area its centre lies in, as
    torch's "nearest-exact" (in float32, as there; widening more than 20 times may round to the neighbour)."""
    centres = (np.arange(size) + 0.5) * np.float64(np.float32(extent) / np.float32(size))
    return np.minimum(np.floor(centres.astype(np.float32)).astype(np.intp), extent - 1)
