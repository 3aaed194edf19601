"""Cross-entropy with Lovász-softmax."""

from __future__ import annotations

from lossbench.losses.ce import CrossEntropyLoss
from lossbench.losses.lovasz_softmax import LovaszSoftmaxLoss
from lossbench.losses.sum import SumLoss
from lossbench.registry import LossTerm, register_loss


@register_loss("ce_lovasz")
class CeLovaszLoss(SumLoss):
    """Cross-entropy plus Lovász-softmax: ce_weight CE + lovasz_weight Lovász. A name for a `sum` of the two.

    Source: Berman et al. 2018 train with Lovász-softmax after, or together with, cross-entropy; 0.8 and 0.2 are common
    practice.

    Lovász-softmax alone trains badly from scratch at cross-entropy's learning rate; with cross-entropy beside it it
    does not. Trap: the two differ in scale, and a weight scales the learning rate with it.

    Args:
        ce_weight, lovasz_weight: finite and >= 0.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        diagnostics: of the last call: each term's value without its weight.

    Raises:
        ParameterError: a weight out of range.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, *, ce_weight: float = 0.8, lovasz_weight: float = 0.2, ignore_index: int = 255) -> None:
        ce, lovasz = CrossEntropyLoss(ignore_index=ignore_index), LovaszSoftmaxLoss(ignore_index=ignore_index)
        terms = [LossTerm(ce, ce_weight, "ce"), LossTerm(lovasz, lovasz_weight, "lovasz_softmax")]
        super().__init__(terms=terms, ignore_index=ignore_index)
