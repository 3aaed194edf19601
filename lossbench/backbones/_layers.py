"""Small parts that several backbones share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lossbench.errors import ParameterError


def check_dropout(rate: float) -> float:
    """`rate`, if it is a probability below 1. Raises ParameterError."""
    if not 0.0 <= rate < 1.0:
        raise ParameterError(f"dropout must be at least 0 and below 1, got {rate}", parameter="dropout")
    return rate


def switch_off_dropout(module: nn.Module) -> None:
    """Set every rate of dropout, drop path (stochastic depth) and drop block inside `module` to 0, in place.

    A trunk is deterministic by contract, so an encoder keeps no randomness of its own, whatever its library's default.
    """
    for part in module.modules():
        if isinstance(part, _DropoutNd):
            part.p = 0.0
        # timm's DropPath and DropBlock2d; segmentation-models-pytorch's EfficientNet
        for rate in ("drop_prob", "_drop_connect_rate"):
            if hasattr(part, rate):
                setattr(part, rate, 0.0)


def widen(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, h, w) bilinearly resized to (N, C, *size), pixel centres aligned (align_corners=False)."""
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def pad_to_multiple(images: Tensor, multiple: int, least: int = 1) -> Tensor:
    """(N, C, H, W) padded with zeros (the mean colour of normalised images) at the right and at the bottom, until each
    side is a multiple of `multiple` and at least `least` (itself a multiple)."""
    height, width = images.shape[-2:]
    below = max(-height % multiple, least - height)
    right = max(-width % multiple, least - width)
    return F.pad(images, (0, right, 0, below)) if below or right else images


def crop(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The top left `size` pixels: undoes `pad_to_multiple`."""
    return logits[..., : size[0], : size[1]]


def fcn_head(in_channels: int, channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ReLU, dropout, 1x1 convolution: the head of torchvision's FCN.

    Layers 0 to 2 are deterministic, layers 3 and 4 are a backbone's `head`.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Conv2d(channels, num_classes, 1),
    )
