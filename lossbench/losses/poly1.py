"""Poly-1 cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossbench.losses._fused import Curve, PixelMean
from lossbench.losses._pixel import check_number
from lossbench.registry import register_loss


def poly1_curve(epsilon: float) -> Curve:
    """-log p + eps (1 - p) and its slope by log p, -1 - eps p."""

    def curve(log_p: Tensor) -> tuple[Tensor, Tensor]:
        value = -log_p
        if epsilon:  # not at 0: cross-entropy in every bit
            value = value - epsilon * torch.expm1(log_p)
        return value, -1 - epsilon * log_p.detach().exp()

    return curve


@register_loss("poly1")
class Poly1Loss(nn.Module):
    """Poly-1 cross-entropy: mean of -log p_y + eps (1 - p_y) over the labelled pixels.

    -log p is the series sum_j (1 - p)^j / j; eps is added to the coefficient of its first term.

    Source: Leng et al. 2022, "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions", eq. 5.

    eps > 0 keeps pulling at pixels that are nearly right, eps < 0 (at least -1) lets them go. It knows nothing of
    classes. eps = 0 is cross-entropy in every bit. Trap: the value can be compared with cross-entropy's only at eps 0.

    Args:
        epsilon: eps >= -1: below, a confident right answer would be pushed away.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: epsilon below -1 or not finite.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, *, epsilon: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        check_number("poly1", "epsilon", epsilon, low=-1)
        self.epsilon, self.ignore_index = epsilon, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return PixelMean(self.ignore_index, poly1_curve(self.epsilon))(logits, target).loss

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon}, ignore_index={self.ignore_index}"
