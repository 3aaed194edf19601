"""Monte-Carlo dropout: the variance of T stochastic softmax outputs, streamed.

Only the probability at one class per pixel is kept over the passes (N, H, W), never T x (N, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lossbench.errors import ConfigError
from lossbench.losses._pixel import Pixels, target_log_prob, widen

#: Returns fresh stochastic logits (N, C, H, W) of the batch at hand.
Resample = Callable[[], Tensor]
UAt = Literal["target", "mean", "predicted"]


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
