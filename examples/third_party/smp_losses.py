"""segmentation-models-pytorch's losses in a few lines each, to be checked or compared: `lossbench check smp_losses.py`.

They are wrapped as they are: what a check finds is theirs. See docs/third-party.md.
"""

from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from lossbench.registry import register_loss


class _Wrapped(nn.Module):
    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Any:
        return self.loss(logits, target)


@register_loss("smp_focal")
class SmpFocal(_Wrapped):
    """segmentation_models_pytorch.losses.FocalLoss in its mode multiclass."""

    def __init__(self, *, gamma: float = 2.0, ignore_index: int = 255) -> None:
        super().__init__(smp.losses.FocalLoss("multiclass", gamma=gamma, ignore_index=ignore_index))


@register_loss("smp_dice")
class SmpDice(_Wrapped):
    """segmentation_models_pytorch.losses.DiceLoss in its mode multiclass."""

    def __init__(self, *, smooth: float = 0.0, ignore_index: int = 255) -> None:
        super().__init__(smp.losses.DiceLoss("multiclass", smooth=smooth, ignore_index=ignore_index))


@register_loss("smp_lovasz")
class SmpLovasz(_Wrapped):
    """segmentation_models_pytorch.losses.LovaszLoss in its mode multiclass."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__(smp.losses.LovaszLoss("multiclass", ignore_index=ignore_index))


@register_loss("smp_soft_ce")
class SmpSoftCE(_Wrapped):
    """segmentation_models_pytorch.losses.SoftCrossEntropyLoss."""

    def __init__(self, *, label_smoothing: float = 0.1, ignore_index: int = 255) -> None:
        super().__init__(smp.losses.SoftCrossEntropyLoss(smooth_factor=label_smoothing, ignore_index=ignore_index))
