"""Random scale, crop, flip and photometric jitter: drawn as plain numbers first, applied by a pure function.

The source window of a crop is cut out before anything is resized, so the cost follows the crop, not the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

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
    image: NDArray[np.uint8], target: NDArray[np.uint8], params: AugmentParams, *, ignore_index: int = IGNORE_INDEX
) -> tuple[Tensor, Tensor]:
    """Apply drawn parameters. Pure: the arrays (views of a memory map, say) are only read.

    Args:
        image: uint8 (H, W, 3).
        target: uint8 (H, W).
        ignore_index: label of the padding.

    Returns:
        uint8 (3, h, w) in channels-last memory and uint8 (h, w), where (h, w) is `params.crop`. Images are resized
        bilinearly with antialiasing, targets by the nearest pixel (centres aligned, as for the image).
    """
    top, left, height, width = params.window
    pixels = torch.from_numpy(image[top : top + height, left : left + width].copy()).permute(2, 0, 1)
    labels = torch.from_numpy(target[top : top + height, left : left + width].copy())
    if params.size != (height, width):
        pixels = tv.resize_image(pixels, list(params.size), antialias=True)
        labels = F.interpolate(labels[None, None], params.size, mode="nearest-exact")[0, 0]
    if params.flip:
        pixels, labels = pixels.flip(-1), labels.flip(-1)
    if params.brightness != 1:
        pixels = tv.adjust_brightness_image(pixels, params.brightness)
    if params.contrast != 1:
        pixels = tv.adjust_contrast_image(pixels, params.contrast)
    if params.saturation != 1:
        pixels = tv.adjust_saturation_image(pixels, params.saturation)
    if params.size == params.crop:
        return pixels, labels
    padded = torch.tensor(MEAN_COLOR, dtype=torch.uint8).expand(*params.crop, 3).clone().permute(2, 0, 1)
    padded_labels = torch.full(params.crop, ignore_index, dtype=torch.uint8)
    rows, columns = (slice(o, o + n) for o, n in zip(params.offset, params.size, strict=True))
    padded[:, rows, columns] = pixels
    padded_labels[rows, columns] = labels
    return padded, padded_labels
