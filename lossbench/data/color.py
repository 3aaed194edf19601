"""Photometric jitter of 8-bit images, by the formulas and roundings of torchvision's `adjust_brightness`,
`adjust_contrast` and `adjust_saturation` (each result is truncated to 8 bits, as there), in place on planes of
float32: no copy per operation, and no conversion to 8 bits between them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def jitter(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Brightness, contrast and saturation of a uint8 (3, H, W) image changed in this order; a factor of 1 changes
    nothing and costs nothing. The result is uint8 (3, H, W) in channels-last memory, `image` itself at factors of 1."""
    if (brightness, contrast, saturation) == (1, 1, 1):
        return image
    planes = torch.empty(image.shape)
    for plane, channel in zip(planes.numpy(), image.numpy(), strict=True):  # torch copies strided channels slowly
        plane[:] = channel
    if brightness != 1:
        _eight_bits(planes.mul_(brightness))
    if contrast != 1:
        mean = _grey(planes).mean()
        _eight_bits(planes.mul_(contrast).add_(mean, alpha=1 - contrast))
    if saturation != 1:
        grey = _grey(planes)
        _eight_bits(planes.mul_(saturation).add_(grey, alpha=1 - saturation))
    result = torch.empty((*image.shape[1:], 3), dtype=torch.uint8).permute(2, 0, 1)
    for channel, plane in zip(result.numpy(), planes.numpy(), strict=True):
        np.copyto(channel, plane, casting="unsafe")
    return result


def _eight_bits(planes: Tensor) -> None:
    planes.clamp_(0, 255).floor_()  # positive: the same as trunc_, which torch has not vectorised


def _grey(planes: Tensor) -> Tensor:
    """Luma (H, W) by ITU-R BT.601 weights, rounded down."""
    red, green, blue = planes.unbind()
    return red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()
