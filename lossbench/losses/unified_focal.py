"""Asymmetric unified focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lossbench.losses._pixel import (
    check_number,
    check_per_class,
    guarded_power,
    label_counts,
    masked_mean,
    prepare,
    target_log_prob,
)
from lossbench.losses._priors import checked_counts
from lossbench.registry import register_loss


@register_loss("unified_focal")
class UnifiedFocalLoss(nn.Module):
    """Asymmetric unified focal loss: lambda F + (1 - lambda) T, a modified focal and a modified focal Tversky loss.

    F is the mean over pixels of -delta log p_y where y is a rare class, and of -(1 - delta) (1 - p_y)^gamma log p_y
    where it is a frequent one: only the frequent are suppressed. T is the mean over the classes present of
    (1 - TI_c)^(1 - gamma) for rare and 1 - TI_c for frequent ones: only the rare are enhanced, with
    TI_c = TP_c / (TP_c + delta FN_c + (1 - delta) FP_c) of soft counts over the batch.

    Source: Yeung et al. 2022, "Unified Focal loss: Generalising Dice and cross entropy-based losses to handle class
    imbalanced medical image segmentation", the asymmetric variant. The paper tells foreground from background; for
    many classes a choice is ours: a class is rare if it has less than 1 / C of the labelled training pixels.

    Traps: 1 - gamma is an exponent below 1, whose slope is infinite at TI = 1: it is 0 there here; implementations with
    an epsilon inside have huge gradients instead. In several of them the roles of delta in TI are swapped. The authors'
    code has delta 0.6 by default, and its `weight` is the share of the Tversky part.

    Args:
        class_counts: (C,) labelled pixels per class over the training set: which classes are rare.
        weight: lambda in [0, 1], share of the focal part.
        delta: in [0, 1], weight of rare classes and of false negatives.
        gamma: in [0, 1), suppression of frequent and enhancement of rare classes; 0: neither.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: a number out of range.
        ConfigError: class_counts negative, all zero or of another number of classes than the logits; wrong shape or
            dtype, or a label outside 0..C-1 (on CPU).
    """

    rare: Tensor

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        *,
        weight: float = 0.5,
        delta: float = 0.7,
        gamma: float = 0.5,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_number("unified_focal", "weight", weight, high=1)
        check_number("unified_focal", "delta", delta, high=1)
        check_number("unified_focal", "gamma", gamma, high=1, open_high=True)
        self.weight, self.delta, self.gamma, self.ignore_index = weight, delta, gamma, ignore_index
        counts = checked_counts("unified_focal", class_counts)
        self.register_buffer("rare", counts < counts.sum() / len(counts), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        pixels = prepare(logits, target, self.ignore_index)
        check_per_class(self.rare, logits, "unified_focal, class_counts")
        log_prob = pixels.logits.log_softmax(1)
        log_p = target_log_prob(log_prob, pixels.target)
        missed = -torch.expm1(log_p)
        frequent = (1 - self.delta) * guarded_power(missed, self.gamma)
        focal = masked_mean(-log_p * torch.where(self.rare[pixels.target], self.delta, frequent), pixels.valid)

        truth = label_counts(pixels).double()
        predicted = log_prob.exp().masked_fill(~pixels.valid.unsqueeze(1), 0.0).sum((0, 2, 3), dtype=torch.float64)
        at_label = log_p.exp().masked_fill(~pixels.valid, 0.0).double().flatten()
        overlap = torch.zeros_like(truth).index_add(0, pixels.target.flatten(), at_label)
        present = truth > 0
        whole = overlap + self.delta * (truth - overlap) + (1 - self.delta) * (predicted - overlap)
        # Where nothing of a class is found and errors of the kind at hand weigh 0, 0/0 means: all wrong.
        missing = (1 - overlap / torch.where(present & (whole > 0), whole, 1.0)).clamp(min=0)
        enhanced = torch.where(self.rare, guarded_power(missing, 1 - self.gamma), missing)
        tversky = (enhanced * present).sum() / present.sum().clamp(min=1)
        return self.weight * focal + (1 - self.weight) * tversky.to(focal.dtype)

    def extra_repr(self) -> str:
        said = f"weight={self.weight}, delta={self.delta}, gamma={self.gamma}"
        return f"{said}, ignore_index={self.ignore_index}"
