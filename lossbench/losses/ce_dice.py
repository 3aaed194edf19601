"""Cross-entropy with Dice."""

from __future__ import annotations

from lossbench.losses.ce import CrossEntropyLoss
from lossbench.losses.dice import DiceLoss
from lossbench.losses.sum import SumLoss
from lossbench.registry import LossTerm, register_loss


@register_loss("ce_dice")
class CeDiceLoss(SumLoss):
    """Cross-entropy plus soft Dice: ce_weight CE + dice_weight Dice. A name for a `sum` of `ce` and `dice`.

    Source: nnU-Net (Isensee et al. 2021), 1:1, there with the Dice of each image's foreground; here `dice`.

    Cross-entropy gives a gradient everywhere, Dice an equal say to every class. Trap: the two differ in scale, and a
    weight scales the learning rate with it.

    Args:
        ce_weight, dice_weight: finite and >= 0.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        diagnostics: of the last call: each term's value without its weight.

    Raises:
        ParameterError: a weight out of range.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, *, ce_weight: float = 1.0, dice_weight: float = 1.0, ignore_index: int = 255) -> None:
        ce, dice = CrossEntropyLoss(ignore_index=ignore_index), DiceLoss(ignore_index=ignore_index)
        terms = [LossTerm(ce, ce_weight, "ce"), LossTerm(dice, dice_weight, "dice")]
        super().__init__(terms=terms, ignore_index=ignore_index)
