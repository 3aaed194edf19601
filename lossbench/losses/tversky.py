"""Tversky loss."""

from __future__ import annotations

from torch import Tensor, nn

from lossbench.errors import ParameterError
from lossbench.losses._pixel import check_number
from lossbench.losses._region import region_loss, tversky_score
from lossbench.registry import register_loss


def tversky_loss(
    logits: Tensor, target: Tensor, *, alpha: float = 0.3, beta: float = 0.7, ignore_index: int = 255
) -> Tensor:
    """1 - TP / (TP + alpha FP + beta FN), averaged over the classes present; see `TverskyLoss`."""
    return region_loss(logits, target, tversky_score(alpha, beta), ignore_index)


@register_loss("tversky")
class TverskyLoss(nn.Module):
    """Tversky loss: mean over the classes present of 1 - TP_c / (TP_c + alpha FP_c + beta FN_c).

    Soft counts over the labelled pixels of the whole batch: TP_c = sum of p_c where the label is c, FP_c = sum of p_c
    where it is not, FN_c = sum of 1 - p_c where it is. alpha = beta = 0.5 is `dice`, alpha = beta = 1 is `jaccard`.

    Source: Salehi et al. 2017, eq. 3 and 4: *alpha* weighs false positives, *beta* false negatives.

    With beta > alpha a missed pixel of a rare class costs more than a false alarm: recall is bought with precision.
    Traps: several libraries swap alpha and beta, so that 0.3 and 0.7 trade the other way round; ignored pixels that
    stay in FP; absent classes: here a class absent from the batch's target does not count, so that no smoothing
    constant is needed. Where the softmax saturates at a wrong class, the gradient vanishes.

    Args:
        alpha: weight of false positives, >= 0.
        beta: weight of false negatives, > 0.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider. 0 without labelled pixels.

    Raises:
        ParameterError: alpha or beta out of range.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, *, alpha: float = 0.3, beta: float = 0.7, ignore_index: int = 255) -> None:
        super().__init__()
        check_number("tversky", "alpha", alpha)
        check_number("tversky", "beta", beta)
        if beta == 0:  # TP / (TP + alpha FP) is 0/0 for a class that is nowhere predicted
            raise ParameterError("tversky: beta must be above 0, got 0", parameter="beta")
        self.alpha, self.beta = alpha, beta
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return tversky_loss(logits, target, alpha=self.alpha, beta=self.beta, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, ignore_index={self.ignore_index}"
