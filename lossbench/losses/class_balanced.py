"""Class-balanced loss: weights by the effective number of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lossbench.losses._fused import PixelMean, nll
from lossbench.losses._pixel import check_batch, check_choice, check_number, check_per_class
from lossbench.losses._priors import bounded, checked_counts
from lossbench.losses.focal import focal_curve
from lossbench.registry import register_loss


def effective_number_weights(class_counts: Tensor, beta: float) -> Tensor:
    """w_c = (1 - beta) / (1 - beta^n_c) of pixel counts (C,), float64, scaled to the mean 1 over the classes that
    have pixels. A class without gets the largest weight of the others."""
    counts = class_counts.double()
    # expm1 and log1p: beta is so close to 1 that its powers lose all digits.
    missing = -torch.expm1(counts * torch.log1p(torch.tensor(beta - 1, dtype=torch.float64)))
    weights = bounded((1 - beta) / missing, counts)
    return weights / weights[counts > 0].mean()


@register_loss("class_balanced")
class ClassBalancedLoss(nn.Module):
    """Class-balanced cross-entropy or focal loss: mean of w_y f(p_y), w_c = (1 - beta) / (1 - beta^n_c), of mean 1.

    n_c = labelled training pixels of class c; (1 - beta^n) / (1 - beta) is the effective number of samples.
    f(p) = -(1 - p)^gamma log p: cross-entropy at gamma = 0, softmax focal above.

    Source: Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", eq. 4 and section 4.

    beta = 0 gives equal weights, beta -> 1 inverse frequencies; what lies between depends on beta against 1 / n_c.
    Trap: the paper's beta of 0.99 to 0.9999 is for *images*. Of pixels there are millions, beta^n_c is 0 for every
    class, and all weights are equal: nothing is balanced. Hence the default 1 - 1e-7. Neighbouring pixels are near
    copies of each other, so that no beta is exact.

    Args:
        class_counts: (C,) labelled pixels per class over the training set.
        beta: in [0, 1).
        gamma: focusing exponent >= 0.
        normalise: divide by the sum of the pixels' weights as torch does (`weights`), or by the number of pixels
            (`pixels`, as the paper).
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: a number out of range, or an unknown option.
        ConfigError: class_counts negative, all zero or of another number of classes than the logits; wrong shape or
            dtype, or a label outside 0..C-1 (on CPU).
    """

    weights: Tensor

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        *,
        beta: float = 0.9999999,
        gamma: float = 0.0,
        normalise: Literal["weights", "pixels"] = "pixels",
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_number("class_balanced", "beta", beta, high=1, open_high=True)
        check_number("class_balanced", "gamma", gamma)
        check_choice("class_balanced", "normalise", normalise, ("weights", "pixels"))
        self.beta, self.gamma, self.normalise, self.ignore_index = beta, gamma, normalise, ignore_index
        weights = effective_number_weights(checked_counts("class_balanced", class_counts), beta)
        self.register_buffer("weights", weights.float(), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        check_batch(logits, target)
        check_per_class(self.weights, logits, "class_balanced, class_counts")
        curve = focal_curve(self.gamma) if self.gamma else nll
        by_weights = self.normalise == "weights"
        return PixelMean(self.ignore_index, curve, self.weights, by_weights)(logits, target).loss

    def extra_repr(self) -> str:
        said = f"beta={self.beta!r}, gamma={self.gamma}, normalise={self.normalise!r}"
        return f"{said}, ignore_index={self.ignore_index}"
