"""Monte-Carlo dropout: the variance of T stochastic softmax outputs, streamed.

Only the probability at one class per pixel is kept over the passes (N, H, W), never T x (N, C, H, W).

Two ways lead to it. Any `resample` works by its full logits. One that also has `resample.narrow`, a function that makes
a pass's logits before their bilinear widening (`lossbench.losses._narrow.Narrow`) or says None, is asked for those
where they suffice and pay: the same passes, the same u up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lossbench.errors import ConfigError
from lossbench.losses._narrow import CellProbability, Narrow, widened_probability
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
    moments = _Welford()
    log_sum: Tensor | None = None
    u = None if needs_grad or u_at == "mean" else _narrow_variance(resample, passes, pixels, classes)
    for _ in range(passes if u is None else 0):
        with nullcontext() if needs_grad else torch.no_grad():
            logits = _checked(resample(), pixels, needs_grad and pixels.logits.requires_grad)
            # Masked for the same reason as in `prepare`, which matters only to gradients.
            log_prob = widen(logits.masked_fill(~pixels.valid.unsqueeze(1), 0.0)).log_softmax(1)
            p = (log_prob if u_at == "mean" else target_log_prob(log_prob, classes)).exp()
            moments.add(p if grad_through_u else p.detach())
            if with_log_mean:
                log_p = target_log_prob(log_prob, pixels.target)
                log_sum = log_p if log_sum is None else torch.logaddexp(log_sum, log_p)
            del logits, log_prob, p  # only the moments outlive a pass
    if u is None:
        u = moments.variance
    if u_at == "mean":
        u = u.mean(1)
    u = u.clamp(0, max_variance(passes)).masked_fill(~pixels.valid, 0.0)
    log_mean = None if log_sum is None else log_sum - math.log(passes)
    return Moments(u, log_mean)


class _Welford:
    """Biased variance of tensors that come one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, value: Tensor) -> None:
        self.count += 1
        if self._mean is None or self._squares is None:
            self._mean, self._squares = value, torch.zeros_like(value)
            return
        delta = value - self._mean
        self._mean = torch.add(self._mean, delta, alpha=1 / self.count)
        self._squares = torch.addcmul(self._squares, delta, value - self._mean)

    @property
    def variance(self) -> Tensor:
        """Of at least one tensor."""
        assert self._squares is not None
        return self._squares / self.count


@torch.no_grad()
def _narrow_variance(resample: Resample, passes: int, pixels: Pixels, classes: Tensor) -> Tensor | None:
    """(N, H, W) variance of p at `classes` from narrow logits, or None if `resample` has none."""
    make: Callable[[], Narrow | None] = getattr(resample, "narrow", lambda: None)
    narrow = make()
    if narrow is None:
        return None
    shape = pixels.logits.shape
    cells: CellProbability | None = None
    if CellProbability.pays(narrow):
        cells = CellProbability(classes, narrow)
    moments = _Welford()
    while True:
        assert narrow is not None, "resample.narrow() gives every pass or none"
        if narrow.logits.shape[:2] != shape[:2] or narrow.size[0] < shape[2] or narrow.size[1] < shape[3]:
            wide = (*narrow.logits.shape[:2], *narrow.size)
            raise ConfigError(f"resample.narrow must return logits that widen to {tuple(shape)}, got {wide}")
        moments.add(cells(narrow) if cells is not None else widened_probability(narrow, classes))
        if moments.count == passes:
            return moments.variance if cells is None else cells.restore(moments.variance)
        narrow = make()


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
