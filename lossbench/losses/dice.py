"""Soft Dice loss."""

from __future__ import annotations

from torch import Tensor, nn

from lossbench.losses._region import region_loss, tversky_score
from lossbench.registry import register_loss

_DICE = tversky_score(0.5, 0.5)


def dice_loss(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """1 - 2 I / (P + G), averaged over the classes present; see `DiceLoss`."""
    return region_loss(logits, target, _DICE, ignore_index)


@register_loss("dice")
class DiceLoss(nn.Module):
    """Soft Dice loss: mean over the classes present of 1 - 2 I_c / (P_c + G_c).

    I_c = sum of p_c at the labelled pixels of class c, P_c = sum of p_c over all labelled pixels, G_c = pixels of class
    c; the sums run over the whole batch. Plain p in P_c, not Milletari's p^2 (the variant of nnU-Net and most
    libraries). It is Tversky at alpha = beta = 0.5.

    Source: Milletari et al. 2016 (V-Net), for many classes.

    A rare class weighs as much as a frequent one. Dice ranks single predictions as Jaccard does (D = 2 J / (1 + J)),
    but its mean over classes is not mean IoU. Most often used in a sum with cross-entropy.
    Traps: ignored pixels that stay in P_c; absent classes, whose Dice of a smoothing constant over itself counts as
    perfect in some libraries and as 0 in others: here a class absent from the batch's target does not count, so that
    no smoothing constant is needed. The value depends on the size of batch and crop: the sums are of the whole batch.
    Where the softmax saturates at a wrong class, the gradient vanishes.

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
        return dice_loss(logits, target, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}"
