"""The loss `poly2`."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossbench.registry import register_loss


@register_loss("poly2")
class Poly2Loss(nn.Module):
    """Poly-2: mean of -log p_y + epsilon1 (1 - p_y) + epsilon2 (1 - p_y)^2.

    Source: Leng et al. 2022, eq. 5 with N = 2: the first two coefficients of cross-entropy's expansion in 1 - p_y,
    changed. Helps when confident pixels should count more (positive) or less (negative) than by cross-entropy.
    Known trap: below -1, epsilon1 turns the slope at p = 1 round.

    Args:
        epsilon1, epsilon2: what is added to the coefficients; 0 and 0 is cross-entropy.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar.
    """

    def __init__(self, *, epsilon1: float = 1.0, epsilon2: float = 0.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.epsilon1 = epsilon1
        self.epsilon2 = epsilon2
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        wide = logits if logits.dtype == torch.float64 else logits.float()
        wide = wide.masked_fill(~valid.unsqueeze(1), 0.0)
        log_p = -functional.cross_entropy(wide, target.masked_fill(~valid, 0), reduction="none")
        miss = -torch.expm1(log_p)  # 1 - p_y
        losses = -log_p + self.epsilon1 * miss + self.epsilon2 * miss**2
        return losses.mul(valid).sum() / valid.sum().clamp(min=1)
