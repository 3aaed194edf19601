"""Balanced cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lossbench.errors import ConfigError, ParameterError
from lossbench.losses._fused import PixelMean
from lossbench.losses._pixel import check_batch, check_choice, check_per_class, label_counts, prepare_labels
from lossbench.registry import register_loss


def balanced_weights(class_counts: Tensor) -> Tensor:
    """w_c = (N - N_c) / N of pixel counts (C,), in float64. All zero counts give weights of 1."""
    counts = class_counts.double()
    return 1 - counts / counts.sum().clamp(min=1)


def balanced_cross_entropy(
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None,
    *,
    normalise: Literal["weights", "pixels"] = "weights",
    ignore_index: int = 255,
) -> Tensor:
    """Class-weighted cross-entropy with `weights` (C,), or with those of the batch if None."""
    if weights is None:
        weights = balanced_weights(label_counts(prepare_labels(logits, target, ignore_index)))
    check_batch(logits, target)
    check_per_class(weights, logits, "balanced_ce, class_counts")
    recipe = PixelMean(ignore_index, class_weights=weights, divide_by_weights=normalise == "weights")
    return recipe(logits, target).loss


@register_loss("balanced_ce")
class BalancedCrossEntropyLoss(nn.Module):
    """Balanced cross-entropy: mean of -w_y log p_y with w_c = (N - N_c) / N.

    N_c = labelled pixels of class c, N = all labelled pixels. Not *binary* cross-entropy.

    Source: Su et al. 2022, eq. 2.

    Nearly cross-entropy when there are more than a few classes: every weight lies in [0, 1] and all but those of
    dominant classes are close to 1; on CamVid an imbalance of 109:1 becomes weights of 1.49:1. Expect little.
    A class that holds all pixels has weight 0, so that a batch (or dataset) of a single class gives 0.

    Args:
        class_counts: (C,) labelled pixels per class over the training set; needed for `counts="dataset"`.
        counts: take N_c from the training set (`dataset`) or from each batch (`batch`: noisier, and a class that
            fills a batch is switched off in it).
        normalise: divide by the sum of the pixels' weights as torch does (`weights`: free of the scale of w), or by
            the number of pixels (`pixels`: the formula literally).
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: an unknown option.
        ConfigError: class_counts missing, negative, all zero or of another number of classes than the logits; wrong
            shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    weights: Tensor | None

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor | None = None,
        *,
        counts: Literal["dataset", "batch"] = "dataset",
        normalise: Literal["weights", "pixels"] = "weights",
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_choice("balanced_ce", "counts", counts, ("dataset", "batch"))
        check_choice("balanced_ce", "normalise", normalise, ("weights", "pixels"))
        self.counts = counts
        self.normalise: Literal["weights", "pixels"] = normalise
        self.ignore_index = ignore_index
        weights = None
        if counts == "dataset":
            if class_counts is None:
                raise ParameterError(
                    "balanced_ce: counts=dataset needs class_counts, the labelled training pixels per class",
                    parameter="counts",
                    hint="pass class_counts, or counts='batch'",
                )
            weights = balanced_weights(_checked_counts(class_counts)).float()
        # Not persistent: a function of the constructor's arguments, not state. A buffer so that it moves with .to().
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return balanced_cross_entropy(
            logits, target, self.weights, normalise=self.normalise, ignore_index=self.ignore_index
        )

    def extra_repr(self) -> str:
        return f"counts={self.counts!r}, normalise={self.normalise!r}, ignore_index={self.ignore_index}"


def _checked_counts(class_counts: Sequence[int] | Tensor) -> Tensor:
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if counts.ndim != 1 or not counts.isfinite().all() or (counts < 0).any() or counts.sum() <= 0:
        raise ConfigError(
            f"balanced_ce: class_counts must be pixel counts >= 0, one per class and not all 0, got {class_counts}"
        )
    return counts
