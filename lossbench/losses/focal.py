"""Softmax focal loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossbench.errors import ParameterError
from lossbench.losses._fused import Curve, PixelMean
from lossbench.losses._pixel import check_batch, check_number, check_per_class, guarded_power
from lossbench.registry import register_loss


def focal_curve(gamma: float, alpha: float = 1.0) -> Curve:
    """-alpha (1 - p)^gamma log p and its slope, alpha (1 - p)^gamma (gamma p log p / (1 - p) - 1)."""

    def curve(log_p: Tensor) -> tuple[Tensor, Tensor]:
        miss = -torch.expm1(log_p)  # 1 - p, rounded once
        factor = alpha * guarded_power(miss, gamma)
        if gamma == 0:  # as cross-entropy's, also where log p is infinite
            return factor * -log_p, factor.detach().neg()
        with torch.no_grad():
            # log p / (1 - p) -> -1 as p -> 1: no 0/0, and no infinite slope for gamma < 1.
            ratio = torch.where(miss > 0, log_p / miss, -1.0)
            slope = factor * (gamma * log_p.exp() * ratio - 1)
        return factor * -log_p, slope

    return curve


def focal_loss(
    logits: Tensor, target: Tensor, *, gamma: float = 2.0, alpha: float | Tensor = 1.0, ignore_index: int = 255
) -> Tensor:
    """Mean of -alpha (1 - p_y)^gamma log p_y; `alpha` a number or (C,). See `FocalLoss`."""
    if isinstance(alpha, Tensor):
        check_batch(logits, target)
        check_per_class(alpha, logits, "focal, alpha")
        recipe = PixelMean(ignore_index, focal_curve(gamma), class_weights=alpha)
    else:
        recipe = PixelMean(ignore_index, focal_curve(gamma, alpha))
    return recipe(logits, target).loss


@register_loss("focal")
class FocalLoss(nn.Module):
    """Softmax focal loss: mean of -alpha_y (1 - p_y)^gamma log p_y over the labelled pixels.

    Source: Lin et al. 2017, eq. 5, at the true class of a softmax; Su et al. 2022, eq. 3 (gamma 2, alpha 0.75).

    Helps when easy pixels (large, uniform regions) drown the hard ones; it does not know of classes unless alpha does.
    Traps: "multiclass focal" of several libraries is C one-vs-rest *sigmoid* losses, some divide by C, and a scalar
    alpha there weighs class 0 by 1 - alpha. Here a scalar alpha is a plain factor, and alpha per class is not
    normalised away. gamma = 0, alpha = 1 is cross-entropy in every bit.

    Args:
        gamma: focusing exponent >= 0. Below 1 the factor's slope is infinite at p = 1; it is guarded.
        alpha: factor >= 0, one for all or one per class.
        num_classes: checked against the length of alpha, if both are given.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: gamma or an alpha negative or not finite; not one alpha per class.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    class_alpha: Tensor | None

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float | list[float] = 1.0,
        num_classes: int | None = None,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_number("focal", "gamma", gamma)
        values = [alpha] if isinstance(alpha, float | int) else list(alpha)
        for value in values:
            check_number("focal", "alpha", value)
        per_class = None if isinstance(alpha, float | int) else torch.tensor(values, dtype=torch.float32)
        if per_class is not None and (not values or (num_classes is not None and len(values) != num_classes)):
            wanted = "" if num_classes is None else f" for {num_classes} classes"
            raise ParameterError(
                f"focal: alpha has {len(values)} values{wanted}",
                parameter="alpha",
                hint="give one number, or one per class",
            )
        self.gamma = gamma
        self.alpha = values[0] if per_class is None else values
        self.ignore_index = ignore_index
        self._factor = values[0] if per_class is None else 1.0
        # Not persistent: a hyper-parameter, not state. A buffer so that it moves with .to().
        self.register_buffer("class_alpha", per_class, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        alpha = self._factor if self.class_alpha is None else self.class_alpha
        return focal_loss(logits, target, gamma=self.gamma, alpha=alpha, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, alpha={self.alpha}, ignore_index={self.ignore_index}"
