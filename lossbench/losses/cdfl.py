"""Cross dropout focal loss."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from lossbench.losses._dropout import DropoutTermLoss
from lossbench.losses._moments import Resample
from lossbench.losses._pixel import check_number
from lossbench.registry import register_loss


@register_loss("cdfl")
class CrossDropoutFocalLoss(DropoutTermLoss):
    """Cross dropout focal loss: CE + omega DF, with DF the mean of -alpha u^gamma log p_y.

    u = (1/T) sum_t p_t^2 - ((1/T) sum_t p_t)^2 over T stochastic passes, per pixel (see `DropoutFocalLoss`).

    Source: Su et al. 2022, eq. 4 to 6 (T 5, gamma 2, alpha 0.75; omega in {0.1, 0.01, 0.001}, best 0.01).

    Computed as the mean of (1 + omega alpha u^gamma) (-log p_y): with u detached, CDFL is cross-entropy with these
    pixel weights, and omega = 0 is cross-entropy in every bit of value and gradient. With the paper's values the
    weights lie in [1, 1.00043], so that no large effect is to be expected; u_scale="unit" with omega near 1, or
    gradients through u, give the idea a fair chance.
    Traps: T plain forward passes of a model in training mode update its BatchNorm statistics T more times and shift
    the random stream, which changes a run far more than the loss term does. Pass a `resample` that does neither. With
    dropout inactive (rate 0, evaluation mode) u is 0 and this is cross-entropy: watch the diagnostic `u_max`.

    Args:
        omega: weight of DF, >= 0.
        passes: T >= 1, number of calls of `resample`.
        gamma: exponent of u, >= 0. Below 1 the slope at u = 0 is infinite; it is guarded.
        alpha: factor >= 0.
        u_at: u at the pixel's true class (`target`), averaged over all classes (`mean`; two more maps of the logits'
            size), or at the class the ordinary pass predicts (`predicted`).
        u_scale: u as it is (`raw`) or divided by its maximum floor(T/2) ceil(T/2) / T^2 (`unit`).
        grad_through_u: let the gradient flow through u into the passes. Then all T passes keep their graphs: memory
            grows by T forward passes' activations.
        log_p: DF's log p_y: that of the ordinary pass (`main`) or the log of the mean p_y of the T passes (`mc_mean`:
            needs the passes' gradient, at the same cost in memory). CE always uses the ordinary pass.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits and resample() (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        extra_forwards: T.
        resample_with_grad: whether gradients are recorded through `resample`.
        diagnostics: of the last call: `u_mean` and `u_max` (after u_scale), `df_ce_ratio` (DF, without omega, over CE).
            `diagnose` adds those per class and the ratio of the gradients.

    Raises:
        ParameterError: a number out of range or an unknown option.
        ConfigError: no resample, or one of another shape; wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    name = "cdfl"

    def __init__(
        self,
        *,
        omega: float = 0.01,
        passes: int = 5,
        gamma: float = 2.0,
        alpha: float = 0.75,
        u_at: Literal["target", "mean", "predicted"] = "target",
        u_scale: Literal["raw", "unit"] = "raw",
        grad_through_u: bool = False,
        log_p: Literal["main", "mc_mean"] = "main",
        ignore_index: int = 255,
    ) -> None:
        super().__init__(
            passes=passes,
            gamma=gamma,
            alpha=alpha,
            u_at=u_at,
            u_scale=u_scale,
            grad_through_u=grad_through_u,
            log_p=log_p,
            ignore_index=ignore_index,
        )
        check_number("cdfl", "omega", omega)
        self.omega = omega

    def forward(self, logits: Tensor, target: Tensor, resample: Resample | None = None) -> Tensor:
        return self.mean(logits, target, resample, ce=1.0, df=self.omega)

    def extra_repr(self) -> str:
        return f"omega={self.omega}, {super().extra_repr()}"
