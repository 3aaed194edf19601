"""kornia's losses in a few lines each, to be checked or compared: `lossbench check kornia_losses.py`.

They are wrapped as they are: what a check finds is theirs. See docs/third-party.md.
"""

from typing import Any

from kornia import losses
from torch import Tensor, nn

from lossbench.registry import register_loss


@register_loss("kornia_focal")
class KorniaFocal(nn.Module):
    """kornia.losses.focal_loss, mean."""

    def __init__(self, *, gamma: float = 2.0, alpha: float | None = None, ignore_index: int = 255) -> None:
        super().__init__()
        self.gamma, self.alpha, self.ignore_index = gamma, alpha, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Any:
        return losses.focal_loss(logits, target, self.alpha, self.gamma, "mean", ignore_index=self.ignore_index)


@register_loss("kornia_dice")
class KorniaDice(nn.Module):
    """kornia.losses.dice_loss with its default average, micro."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Any:
        return losses.dice_loss(logits, target, ignore_index=self.ignore_index)


@register_loss("kornia_lovasz")
class KorniaLovasz(nn.Module):
    """kornia.losses.lovasz_softmax_loss; knows no ignored pixels, which get the class 0 here."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Any:
        return losses.lovasz_softmax_loss(logits, target.masked_fill(target == self.ignore_index, 0))


@register_loss("kornia_tversky")
class KorniaTversky(nn.Module):
    """kornia.losses.tversky_loss."""

    def __init__(self, *, alpha: float = 0.3, beta: float = 0.7, ignore_index: int = 255) -> None:
        super().__init__()
        self.alpha, self.beta, self.ignore_index = alpha, beta, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Any:
        return losses.tversky_loss(logits, target, self.alpha, self.beta, ignore_index=self.ignore_index)
