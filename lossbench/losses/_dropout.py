"""The loss terms made of Monte-Carlo dropout's variance: what DF and CDFL share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lossbench.errors import ConfigError
from lossbench.losses._diagnose import gradient_ratio, spread
from lossbench.losses._fused import PixelMean
from lossbench.losses._moments import Moments, Resample, UAt, max_variance, resampled_moments
from lossbench.losses._pixel import check_choice, check_number, guarded_power, masked_mean, prepare_labels

UScale = Literal["raw", "unit"]
LogP = Literal["main", "mc_mean"]

#: Below this u (a standard deviation of 1e-6, float32's rounding of a softmax) the slope of u^gamma counts as 0.
_U_FLOOR = 1e-12


class DropoutTermLoss(nn.Module):
    """What DF and CDFL share: the options, T passes, the per-pixel weight alpha u^gamma, the diagnostics."""

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
        #: u (after u_scale), detached, and DF's factor, of the last call.
        self._last: tuple[Tensor, float] | None = None

    def mean(self, logits: Tensor, target: Tensor, resample: Resample | None, *, ce: float, df: float) -> Tensor:
        """ce CE + df DF, both means over the labelled pixels; `ce` and `df` are numbers."""
        if not callable(resample):
            raise ConfigError(
                f"{self.name} needs a third argument, resample: a function that returns fresh stochastic logits",
                hint="with dropout active: loss(logits, target, resample=lambda: model(images))",
            )
        pixels = prepare_labels(logits, target, self.ignore_index)
        moments = resampled_moments(
            resample,
            self.passes,
            pixels,
            u_at=self.u_at,
            grad_through_u=self.grad_through_u,
            with_log_mean=self.log_p == "mc_mean",
        )
        return self.given(logits, target, moments, ce=ce, df=df)

    def given(self, logits: Tensor, target: Tensor, moments: Moments, *, ce: float, df: float) -> Tensor:
        """What `mean` returns once the moments of the passes are known; sets the diagnostics."""
        u, log_mean = moments
        valid = target != self.ignore_index
        if self.u_scale == "unit" and self.passes > 1:  # one pass: u = 0 and its maximum too
            u = u / max_variance(self.passes)
        self._last = u.detach(), df
        weight = guarded_power(u, self.gamma, _U_FLOOR)
        weight = self.alpha * weight if weight.requires_grad else weight.mul_(self.alpha)  # in place: one map less
        if log_mean is None:
            means = PixelMean(self.ignore_index, base=ce, slope=df)(logits, target, weight)
            self._diagnose(u, valid, means.unweighted, means.weighted)
            return means.loss
        means = PixelMean(self.ignore_index)(logits if ce else logits.detach(), target)
        df_mean = masked_mean(weight * -log_mean, valid)
        self._diagnose(u, valid, means.unweighted, df_mean.detach())
        return ce * means.loss + df * df_mean

    def _diagnose(self, u: Tensor, valid: Tensor, ce: Tensor, df: Tensor) -> None:
        u = u.detach()  # 0 at ignored pixels
        self.diagnostics = {
            "u_mean": u.sum() / valid.sum().clamp(min=1),
            "u_max": u.amax() if u.numel() else u.new_zeros(()),
            "df_ce_ratio": df / ce.clamp(min=torch.finfo(ce.dtype).tiny),
        }

    def diagnose(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The `diagnostics` of the last call, and what takes longer to find out, for its batch.

        `u_mean`, `u_p99`, `u_max` over the labelled pixels; `u_mean_class`, `u_p99_class` (C,) over those of each true
        class, NaN where there is none; `df_ce_ratio`, DF (without omega) over CE; `grad_ratio`, the norm of omega DF's
        gradient by the logits over that of CE's, at fixed u and by the ordinary pass's log p_y: with `grad_through_u`
        or `log_p: mc_mean` that is a part of the whole. For DF, omega is 1.
        """
        if self._last is None:
            return {}
        u, df = self._last
        valid = target != self.ignore_index
        weight = df * self.alpha * guarded_power(u, self.gamma, _U_FLOOR)
        return {
            **spread(u, target, valid, logits.shape[1], "u"),
            **self.diagnostics,
            "grad_ratio": gradient_ratio(logits, target, valid, weight),
        }

    def extra_repr(self) -> str:
        return (
            f"passes={self.passes}, gamma={self.gamma}, alpha={self.alpha}, u_at={self.u_at!r}, "
            f"u_scale={self.u_scale!r}, grad_through_u={self.grad_through_u}, log_p={self.log_p!r}, "
            f"ignore_index={self.ignore_index}"
        )
