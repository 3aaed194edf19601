"""Dice with focal loss."""

from __future__ import annotations

from lossbench.losses.dice import DiceLoss
from lossbench.losses.focal import FocalLoss
from lossbench.losses.sum import SumLoss
from lossbench.registry import LossTerm, register_loss


@register_loss("dice_focal")
class DiceFocalLoss(SumLoss):
    """Soft Dice plus softmax focal loss: dice_weight Dice + focal_weight focal. A name for a `sum` of the two.

    Source: AnatomyNet (Zhu et al. 2019), there with other weights; 1:1 as in MONAI's DiceFocalLoss.

    Dice gives an equal say to every class, focal loss a gradient at hard pixels. Trap: the two differ in scale, and a
    weight scales the learning rate with it.

    Args:
        dice_weight, focal_weight: finite and >= 0.
        gamma: focusing exponent >= 0 of the focal part.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        diagnostics: of the last call: each term's value without its weight.

    Raises:
        ParameterError: a number out of range.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(
        self, *, dice_weight: float = 1.0, focal_weight: float = 1.0, gamma: float = 2.0, ignore_index: int = 255
    ) -> None:
        dice, focal = DiceLoss(ignore_index=ignore_index), FocalLoss(gamma=gamma, ignore_index=ignore_index)
        terms = [LossTerm(dice, dice_weight, "dice"), LossTerm(focal, focal_weight, "focal")]
        super().__init__(terms=terms, ignore_index=ignore_index)
