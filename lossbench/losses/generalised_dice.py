"""Generalised Dice loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossbench.losses._region import region_loss
from lossbench.registry import register_loss


def _score(overlap: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
    """1 - 2 sum_c w_c I_c / sum_c w_c (P_c + G_c), w_c = 1 / G_c^2, classes with G_c > 0 only; 0 without any."""
    present = truth > 0
    weight = present / torch.where(present, truth, 1.0).square()
    whole = (weight * (predicted + truth)).sum()
    some = present.any()
    return some * (1 - 2 * (weight * overlap).sum() / torch.where(some, whole, 1.0))


@register_loss("generalised_dice")
class GeneralisedDiceLoss(nn.Module):
    """Generalised Dice loss: 1 - 2 sum_c w_c I_c / sum_c w_c (P_c + G_c), w_c = 1 / G_c^2.

    I_c = sum of p_c at the labelled pixels of class c, P_c = sum of p_c over all labelled pixels, G_c = pixels of class
    c; the sums run over the whole batch.

    Source: Sudre et al. 2017, "Generalised Dice Overlap as a Loss Function for Highly Unbalanced Segmentations".

    One ratio over all classes, each weighed by the inverse square of its pixels: the rarest class of a batch rules the
    loss. With many classes of very unequal size the others are hardly seen; that is the method, not a mistake.
    Traps: the weight of an absent class is infinite, and implementations differ in what they put for it: here a class
    absent from the batch's target does not count; ignored pixels that stay in P_c.

    Args:
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider. 0 without labelled pixels.

    Raises:
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return region_loss(logits, target, _score, self.ignore_index)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}"
