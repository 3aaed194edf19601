"""The contract of a backbone: a segmentation network cut where its first stochastic layer sits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Narrow(NamedTuple):
    """Logits before the bilinear widening that ends a head.

    Attributes:
        logits: (N, num_classes, h, w).
        size: height and width they are widened to. What lies beyond the wanted size, right and below, is cut off.
        align_corners: as in `torch.nn.functional.interpolate`.
    """

    logits: Tensor
    size: tuple[int, int]
    align_corners: bool = False

    def widened(self, size: tuple[int, int]) -> Tensor:
        """The logits (N, num_classes, *size)."""
        wide = F.interpolate(self.logits, size=self.size, mode="bilinear", align_corners=self.align_corners)
        return wide[..., : size[0], : size[1]]


class Backbone(nn.Module, ABC):
    """A network in two parts, so that Monte-Carlo dropout repeats only what is random.

    `trunk` is deterministic given weights and BatchNorm mode and runs once a step; `head` holds every dropout
    layer and is replayed T times by the resampler. `forward` is exactly `head(trunk(x), x.shape[-2:])`.

    Subclasses document where the cut is. Where an architecture has no dropout, the adapter puts one before its
    last layer: the same network for every loss.
    """

    @abstractmethod
    def trunk(self, images: Tensor) -> Any:
        """Features of normalised float images (N, 3, H, W): a tensor, or a tuple/dict of tensors."""

    @abstractmethod
    def head(self, features: Any, size: tuple[int, int]) -> Tensor:
        """Logits (N, num_classes, *size) in the dtype of the features, bilinearly widened to `size`."""

    def narrow(self, features: Any, size: tuple[int, int]) -> Narrow | None:
        """The head without its last step, for heads that end in a bilinear widening: `head(features, size)` is
        `narrow(features, size).widened(size)`. None, and nothing drawn, for other heads."""
        return None

    @abstractmethod
    def encoder_parameters(self) -> list[nn.Parameter]:
        """The (possibly pre-trained) encoder's parameters; the others train at `head_lr_factor` x lr."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) of images (N, 3, H, W)."""
        return self.head(self.trunk(images), (images.shape[-2], images.shape[-1]))
