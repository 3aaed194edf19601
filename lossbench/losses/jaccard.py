"""Soft Jaccard loss."""

from __future__ import annotations

from torch import Tensor, nn

from lossbench.losses._region import region_loss, tversky_score
from lossbench.registry import register_loss

_JACCARD = tversky_score(1.0, 1.0)


def jaccard_loss(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """1 - I / (P + G - I), averaged over the classes present; see `JaccardLoss`."""
    return region_loss(logits, target, _JACCARD, ignore_index)


@register_loss("jaccard")
class JaccardLoss(nn.Module):
    """Soft Jaccard loss (Jaccard metric loss, JML): mean over the classes present of 1 - I_c / (P_c + G_c - I_c).

    I_c = sum of p_c at the labelled pixels of class c, P_c = sum of p_c over all labelled pixels, G_c = pixels of class
    c; the sums run over the whole batch. At one-hot predictions it is 1 - mean IoU over the classes present in the
    target. It is Tversky at alpha = beta = 1.

    Source: Wang et al. 2023 (Jaccard metric losses), the L1 form (P + G - |P - G|_1) / (P + G + |P - G|_1), which at
    hard labels, the only ones here, is the classical soft Jaccard (Rahman & Wang 2016).

    A rare class weighs as much as a frequent one, and the target is the metric itself. Compare `lovasz_softmax`, which
    extends the same set function convexly, but has to sort.
    Traps: sums per image and sums per batch are different losses and aim at different means; absent classes that count
    as 0 or as 1: here a class absent from the batch's target does not count. Where the softmax saturates at a wrong
    class, the gradient vanishes.

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
        return jaccard_loss(logits, target, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}"
