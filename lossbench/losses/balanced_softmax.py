"""Balanced softmax."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lossbench.losses.logit_adjusted import LogitAdjustedLoss
from lossbench.registry import register_loss


@register_loss("balanced_softmax")
class BalancedSoftmaxLoss(LogitAdjustedLoss):
    """Balanced softmax: mean of -log(n_y e^{z_y} / sum_c n_c e^{z_c}), n_c = labelled training pixels of class c.

    Source: Ren et al. 2020, "Balanced Meta-Softmax for Long-Tailed Visual Recognition", eq. 4. It is `logit_adjusted`
    at tau = 1, in every bit; see there for what it does and its traps. The paper's meta sampler is not part of it.

    Args:
        class_counts: (C,) labelled pixels per class over the training set.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ConfigError: class_counts negative, all zero or of another number of classes than the logits; wrong shape or
            dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, class_counts: Sequence[int] | Tensor, *, ignore_index: int = 255) -> None:
        super().__init__(class_counts, tau=1.0, ignore_index=ignore_index)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}"
