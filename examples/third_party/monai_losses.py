"""MONAI's losses in a few lines each, to be checked or compared: `lossbench check monai_losses.py`.

They know no ignored pixels: the wrapper gives those the class 0, as users of them do. See docs/third-party.md.
"""

from typing import Any

from monai import losses
from torch import Tensor, nn

from lossbench.registry import register_loss


class _Wrapped(nn.Module):
    def __init__(self, loss: nn.Module, ignore_index: int) -> None:
        super().__init__()
        self.loss = loss
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Any:
        return self.loss(logits, target.masked_fill(target == self.ignore_index, 0).unsqueeze(1))


@register_loss("monai_focal")
class MonaiFocal(_Wrapped):
    """monai.losses.FocalLoss with softmax."""

    def __init__(self, *, gamma: float = 2.0, ignore_index: int = 255) -> None:
        super().__init__(losses.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=gamma), ignore_index)


@register_loss("monai_dice")
class MonaiDice(_Wrapped):
    """monai.losses.DiceLoss with softmax, over the batch."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__(losses.DiceLoss(softmax=True, to_onehot_y=True, batch=True), ignore_index)


@register_loss("monai_dice_ce")
class MonaiDiceCE(_Wrapped):
    """monai.losses.DiceCELoss with softmax, over the batch."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__(losses.DiceCELoss(softmax=True, to_onehot_y=True, batch=True), ignore_index)


@register_loss("monai_tversky")
class MonaiTversky(_Wrapped):
    """monai.losses.TverskyLoss with softmax, over the batch."""

    def __init__(self, *, alpha: float = 0.3, beta: float = 0.7, ignore_index: int = 255) -> None:
        loss = losses.TverskyLoss(softmax=True, to_onehot_y=True, batch=True, alpha=alpha, beta=beta)
        super().__init__(loss, ignore_index)
