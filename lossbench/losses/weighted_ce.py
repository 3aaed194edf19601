"""Cross-entropy with class weights from class frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lossbench.errors import ParameterError
from lossbench.losses._fused import PixelMean
from lossbench.losses._pixel import check_batch, check_choice, check_number, check_per_class
from lossbench.losses._priors import bounded, checked_counts
from lossbench.registry import register_loss

Scheme = Literal["median", "inverse", "sqrt", "enet"]


def frequency_weights(class_counts: Tensor, scheme: Scheme) -> Tensor:
    """w_c of pixel counts (C,), float64, with pi_c the share of class c: `inverse` 1 / pi_c, `median`
    median(pi) / pi_c, `sqrt` 1 / sqrt(pi_c), `enet` 1 / ln(1.02 + pi_c). A class without a pixel gets the largest
    weight of the others, but with `enet`, which has one for it."""
    counts = class_counts.double()
    share = counts / counts.sum()
    if scheme == "enet":
        return 1 / (1.02 + share).log()
    if scheme == "sqrt":
        return bounded(share.rsqrt(), counts)
    inverse = bounded(1 / share, counts)
    return inverse * share[counts > 0].quantile(0.5) if scheme == "median" else inverse


@register_loss("weighted_ce")
class WeightedCrossEntropyLoss(nn.Module):
    """Cross-entropy weighted by class frequency: mean of -w_y log p_y, w from the shares pi_c of the training pixels.

    `median`: w_c = median(pi) / pi_c; `inverse`: 1 / pi_c; `sqrt`: 1 / sqrt(pi_c); `enet`: 1 / ln(1.02 + pi_c).

    Source: median frequency balancing, Eigen & Fergus 2015, used by SegNet (Badrinarayanan et al. 2017); the bounded
    logarithm, ENet (Paszke et al. 2016), constant 1.02: weights between 1.4 and 50.

    With `inverse` every class has the same say in the loss, at the price of false alarms on the rare ones; `sqrt` and
    `enet` are milder. `median` and `inverse` differ by a factor only, so that with normalise=weights they are one loss.
    Traps: lists of weights that came with somebody's code and that nobody can derive again; weights from the batch at
    hand, which explode where a class has a few pixels. SegNet's frequencies count only the images that hold a class;
    these count all images, which is what class counts tell. A class that the training set lacks gets the largest
    weight of the others, with `enet` 1 / ln(1.02).

    Args:
        class_counts: (C,) labelled pixels per class over the training set; needed unless `weights` are given.
        scheme: how weights follow from the counts.
        weights: (C,) >= 0 instead of a scheme.
        normalise: divide by the sum of the pixels' weights as torch does (`weights`: free of the scale of w), or by
            the number of pixels (`pixels`: the scale of w then scales the learning rate).
        num_classes: checked against the length of `weights`.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: an unknown option, a negative weight, or not one weight per class.
        ConfigError: class_counts missing, negative, all zero or of another number of classes than the logits; wrong
            shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    weights: Tensor

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor | None = None,
        *,
        scheme: Literal["median", "inverse", "sqrt", "enet"] = "median",
        weights: list[float] | None = None,
        normalise: Literal["weights", "pixels"] = "weights",
        num_classes: int | None = None,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_choice("weighted_ce", "scheme", scheme, get_args(Scheme))
        check_choice("weighted_ce", "normalise", normalise, ("weights", "pixels"))
        self.scheme: str = "given" if weights is not None else scheme
        self.normalise, self.ignore_index = normalise, ignore_index
        if weights is not None:
            for weight in weights:
                check_number("weighted_ce", "weights", weight)
            if not weights or (num_classes is not None and len(weights) != num_classes):
                wanted = "" if num_classes is None else f" for {num_classes} classes"
                raise ParameterError(f"weighted_ce: {len(weights)} weights{wanted}", parameter="weights")
            found = torch.tensor(weights, dtype=torch.float64)
        elif class_counts is not None:
            found = frequency_weights(checked_counts("weighted_ce", class_counts), scheme)
        else:
            raise ParameterError(
                "weighted_ce needs class_counts, the labelled training pixels per class, or weights",
                parameter="weights",
            )
        self.register_buffer("weights", found.float(), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        check_batch(logits, target)
        check_per_class(self.weights, logits, "weighted_ce, weights")
        by_weights = self.normalise == "weights"
        return PixelMean(self.ignore_index, class_weights=self.weights, divide_by_weights=by_weights)(
            logits, target
        ).loss

    def extra_repr(self) -> str:
        return f"scheme={self.scheme!r}, normalise={self.normalise!r}, ignore_index={self.ignore_index}"
