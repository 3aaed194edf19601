"""Monte-Carlo dropout: the variance of T stochastic softmax outputs, streamed, and the loss terms made of it.

Only the probability at one class per pixel is kept over the passes (N, H, W), never T x (N, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lossbench.errors import ConfigError
from lossbench.losses._pixel import (
    Pixels,
    check_choice,
    check_number,
    guarded_power,
    masked_mean,
    prepare,
    target_log_prob,
    widen,
)

#: Returns fresh stochastic logits (N, C, H, W) of the batch at hand.
Resample = Callable[[], Tensor]
UAt = Literal["target", "mean", "predicted"]
UScale = Literal["raw", "unit"]
LogP = Literal["main", "mc_mean"]

#: Below this u (a standard deviation of 1e-6, float32's rounding of a softmax) the slope of u^gamma counts as 0.
_U_FLOOR = 1e-12


def max_variance(passes: int) -> float:
    """Largest biased variance of `passes` numbers in [0, 1]: half of them 0, half 1. 0.24 for 5, at most 0.25."""
    return (passes // 2) * ((passes + 1) // 2) / passes**2


class Moments(NamedTuple):
    """What the T passes leave behind.

    Attributes:
        u: (N, H, W) variance over the passes in [0, max_variance(T)], 0 at ignored pixels.
        log_mean: (N, H, W) log of the mean probability of the true class, or None if it was not asked for.
    """

    u: Tensor
    log_mean: Tensor | None


def resampled_moments(
    resample: Resample,
    passes: int,
    pixels: Pixels,
    *,
    u_at: UAt = "target",
    grad_through_u: bool = False,
    with_log_mean: bool = False,
) -> Moments:
    """Run `resample` T = `passes` times and stream the moments (Su et al. 2022, eq. 4).

    u = (1/T) sum_t p_t^2 - ((1/T) sum_t p_t)^2, computed by Welford's recurrence: by raw moments, as the equation is
    printed, float32 gives negative variances at many pixels.

    Gradients are recorded through the passes only if `grad_through_u` or `with_log_mean`, u itself being detached
    unless `grad_through_u`.

    Raises:
        ConfigError: `resample` is no function, or returns something else than logits of the batch's shape.
    """
    needs_grad = grad_through_u or with_log_mean
    # The class u is taken at; with u_at = mean none.
    classes = pixels.logits.detach().argmax(1) if u_at == "predicted" else pixels.target
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    log_sum: Tensor | None = None
    for t in range(1, passes + 1):
        with nullcontext() if needs_grad else torch.no_grad():
            logits = _checked(resample(), pixels, needs_grad and pixels.logits.requires_grad)
            # Masked for the same reason as in `prepare`, which matters only to gradients.
            log_prob = widen(logits.masked_fill(~pixels.valid.unsqueeze(1), 0.0)).log_softmax(1)
            p = (log_prob if u_at == "mean" else target_log_prob(log_prob, classes)).exp()
            if not grad_through_u:
                p = p.detach()
            delta = p - mean
            mean = mean + delta / t
            squares = squares + delta * (p - mean)
            if with_log_mean:
                log_p = target_log_prob(log_prob, pixels.target)
                log_sum = log_p if log_sum is None else torch.logaddexp(log_sum, log_p)
            del logits, log_prob, p, delta  # only the moments outlive a pass
    u = torch.as_tensor(squares) / passes
    if u_at == "mean":
        u = u.mean(1)
    u = u.clamp(0, max_variance(passes)).masked_fill(~pixels.valid, 0.0)
    log_mean = None if log_sum is None else log_sum - math.log(passes)
    return Moments(u, log_mean)


def _checked(logits: Tensor, pixels: Pixels, needs_grad: bool) -> Tensor:
    if not isinstance(logits, Tensor) or logits.shape != pixels.logits.shape:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(
            f"resample must return logits of shape {tuple(pixels.logits.shape)}, got {got}",
            hint="it is a function without arguments: resample=lambda: model(images)",
        )
    if needs_grad and torch.is_grad_enabled() and not logits.requires_grad:
        raise ConfigError(
            "resample returned logits without a gradient, but the options of this loss need one",
            hint="do not wrap resample in torch.no_grad(), or set grad_through_u=False and log_p='main'",
        )
    return logits


class DropoutTermLoss(nn.Module):
    """What DF and CDFL share: the options, T passes, the per-pixel weight alpha u^gamma, the diagnostics.

    Subclasses combine `parts` of a call into the loss.
    """

    name: str

    def __init__(
        self,
        *,
        passes: int,
        gamma: float,
        alpha: float,
        u_at: UAt,
        u_scale: UScale,
        grad_through_u: bool,
        log_p: LogP,
        ignore_index: int,
    ) -> None:
        super().__init__()
        check_number(self.name, "passes", passes, low=1)
        check_number(self.name, "gamma", gamma)
        check_number(self.name, "alpha", alpha)
        check_choice(self.name, "u_at", u_at, ("target", "mean", "predicted"))
        check_choice(self.name, "u_scale", u_scale, ("raw", "unit"))
        check_choice(self.name, "log_p", log_p, ("main", "mc_mean"))
        self.passes = passes
        self.gamma = gamma
        self.alpha = alpha
        self.u_at: UAt = u_at
        self.u_scale: UScale = u_scale
        self.grad_through_u = grad_through_u
        self.log_p: LogP = log_p
        self.ignore_index = ignore_index
        #: See `lossbench.losses`: optional parts of a loss's contract.
        self.extra_forwards = passes
        self.resample_with_grad = grad_through_u or log_p == "mc_mean"
        self.diagnostics: dict[str, Tensor] = {}

    def terms(self, logits: Tensor, target: Tensor, resample: Resample | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(-log p_y of the ordinary pass, -log p_y as DF uses it, DF's weight alpha u^gamma, valid), all (N, H, W).

        The first two are the same tensor when log_p = main.
        """
        if not callable(resample):
            raise ConfigError(
                f"{self.name} needs a third argument, resample: a function that returns fresh stochastic logits",
                hint="with dropout active: loss(logits, target, resample=lambda: model(images))",
            )
        pixels = prepare(logits, target, self.ignore_index)
        nll = -target_log_prob(pixels.logits.log_softmax(1), pixels.target)
        u, log_mean = resampled_moments(
            resample,
            self.passes,
            pixels,
            u_at=self.u_at,
            grad_through_u=self.grad_through_u,
            with_log_mean=self.log_p == "mc_mean",
        )
        if self.u_scale == "unit" and self.passes > 1:  # one pass: u = 0 and its maximum too
            u = u / max_variance(self.passes)
        weight = self.alpha * guarded_power(u, self.gamma, _U_FLOOR)
        nll_df = nll if log_mean is None else -log_mean
        self._diagnose(u, nll, nll_df, weight, pixels.valid)
        return nll, nll_df, weight, pixels.valid

    @torch.no_grad()
    def _diagnose(self, u: Tensor, nll: Tensor, nll_df: Tensor, weight: Tensor, valid: Tensor) -> None:
        ce = masked_mean(nll, valid)
        self.diagnostics = {
            "u_mean": masked_mean(u, valid).detach(),
            "u_max": u.max().detach() if u.numel() else u.new_zeros(()),
            "df_ce_ratio": masked_mean(weight * nll_df, valid) / ce.clamp(min=torch.finfo(ce.dtype).tiny),
        }

    def extra_repr(self) -> str:
        return (
            f"passes={self.passes}, gamma={self.gamma}, alpha={self.alpha}, u_at={self.u_at!r}, "
            f"u_scale={self.u_scale!r}, grad_through_u={self.grad_through_u}, log_p={self.log_p!r}, "
            f"ignore_index={self.ignore_index}"
        )
