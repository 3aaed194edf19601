"""Logit-adjusted cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lossbench.losses._fused import PixelMean
from lossbench.losses._pixel import check_batch, check_number, check_per_class, widen
from lossbench.losses._priors import checked_counts, log_priors
from lossbench.registry import register_loss


@register_loss("logit_adjusted")
class LogitAdjustedLoss(nn.Module):
    """Logit-adjusted cross-entropy: CE(z + tau log pi), pi_c = share of class c among the labelled training pixels.

    Source: Menon et al. 2021, "Long-Tail Learning via Logit Adjustment", eq. 10. At tau = 1 it is `balanced_softmax`
    (Ren et al. 2020).

    The network learns scores to which the prior has still to be added; scored without it, by the plain argmax, it
    minimises the *balanced* error: recall of rare classes rises and their precision falls, so that mAcc may gain what
    mIoU loses. tau = 0 is cross-entropy in every bit.
    Traps: a class without a training pixel has a log prior of minus infinity; here it counts as one pixel. Adding the
    prior once more at test time undoes the loss.

    Args:
        class_counts: (C,) labelled pixels per class over the training set.
        tau: >= 0, strength of the adjustment.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: tau negative or not finite.
        ConfigError: class_counts negative, all zero or of another number of classes than the logits; wrong shape or
            dtype, or a label outside 0..C-1 (on CPU).
    """

    offset: Tensor

    def __init__(self, class_counts: Sequence[int] | Tensor, *, tau: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        check_number("logit_adjusted", "tau", tau)
        self.tau, self.ignore_index = tau, ignore_index
        offset = tau * log_priors(checked_counts("logit_adjusted", class_counts))
        self.register_buffer("offset", offset.float(), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        check_batch(logits, target)
        check_per_class(self.offset, logits, "logit_adjusted, class_counts")
        return PixelMean(self.ignore_index)(widen(logits) + self.offset.view(1, -1, 1, 1), target).loss

    def extra_repr(self) -> str:
        return f"tau={self.tau}, ignore_index={self.ignore_index}"
