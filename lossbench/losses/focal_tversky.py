"""Focal Tversky loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossbench.errors import ParameterError
from lossbench.losses._pixel import check_number, guarded_power
from lossbench.losses._region import Score, region_loss, tversky_score
from lossbench.registry import register_loss


def focal_tversky_score(alpha: float, beta: float, gamma: float) -> Score:
    """(1 - I / (I + alpha (P - I) + beta (G - I)))^(1 / gamma), averaged over the classes present (G > 0)."""
    if gamma == 1:  # Tversky in every bit
        return tversky_score(alpha, beta)

    def score(overlap: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
        present = truth > 0
        union = overlap + alpha * (predicted - overlap) + beta * (truth - overlap)
        index = overlap / torch.where(present, union, 1.0)
        missing = (1 - index).clamp(min=0)
        return (guarded_power(missing, 1 / gamma) * present).sum() / present.sum().clamp(min=1)

    return score


@register_loss("focal_tversky")
class FocalTverskyLoss(nn.Module):
    """Focal Tversky loss: mean over the classes present of (1 - TI_c)^(1 / gamma).

    TI_c = TP_c / (TP_c + alpha FP_c + beta FN_c) of soft counts over the labelled pixels of the whole batch, see
    `tversky`.

    Source: Abraham & Khan 2019, "A Novel Focal Tversky Loss Function With Improved Attention U-Net for Lesion
    Segmentation" (gamma 4/3).

    gamma > 1 raises the slope of classes that are nearly right and flattens that of the wrong ones; gamma < 1 does the
    opposite. gamma = 1 is `tversky` in every bit.
    Traps: the exponent is 1 / gamma, some libraries write gamma itself; for gamma > 1 the slope is infinite at
    TI = 1, here it is 0 there. Alpha and beta are swapped between libraries: see `tversky`.

    Args:
        alpha: weight of false positives, >= 0.
        beta: weight of false negatives, > 0.
        gamma: > 0.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider. 0 without labelled pixels.

    Raises:
        ParameterError: alpha, beta or gamma out of range.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(
        self, *, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.3333333333333333, ignore_index: int = 255
    ) -> None:
        super().__init__()
        for name, value in {"alpha": alpha, "beta": beta, "gamma": gamma}.items():
            check_number("focal_tversky", name, value)
            if value == 0 and name != "alpha":
                raise ParameterError(f"focal_tversky: {name} must be above 0, got 0", parameter=name)
        self.alpha, self.beta, self.gamma, self.ignore_index = alpha, beta, gamma, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        score = focal_tversky_score(self.alpha, self.beta, self.gamma)
        return region_loss(logits, target, score, self.ignore_index)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}, ignore_index={self.ignore_index}"
