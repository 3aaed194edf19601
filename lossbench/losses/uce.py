"""Uncertainty-aware cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossbench.errors import ConfigError
from lossbench.losses._diagnose import gradient_ratio, spread
from lossbench.losses._fused import PixelMean
from lossbench.losses._moments import Resample, resampled_moments
from lossbench.losses._pixel import check_number, prepare_labels
from lossbench.registry import register_loss


@register_loss("uce")
class UncertaintyAwareCrossEntropy(nn.Module):
    """Uncertainty-aware cross-entropy (U-CE): mean of (1 + sigma)^alpha (-log p_y), sigma from Monte-Carlo dropout.

    sigma is the standard deviation (1/T) over T stochastic passes of the softmax probability of the predicted class,
    per pixel, without gradient.

    Source: Landgraf et al. 2024, "Uncertainty-aware Cross-Entropy for Semantic Segmentation" (alpha 10, T 10; the
    uncertainty by Gal & Ghahramani 2016). Left open there or chosen here: the predicted class is that of the ordinary
    pass, so that the passes are streamed; the mean is over the labelled pixels.

    Where CDFL's weights of at most 1.00043 change next to nothing, these reach (1 + 0.5)^10 = 58 where the passes
    disagree, so the scale of the loss moves with dropout and with training: watch the diagnostic `weight_mean`.
    alpha = 0 is cross-entropy in every bit of value and gradient.
    Traps: T plain forward passes of a model in training mode update its BatchNorm statistics T more times and shift
    the random stream; pass a `resample` that does neither. With dropout inactive this is cross-entropy.

    Args:
        alpha: exponent >= 0.
        passes: T >= 1, number of calls of `resample`.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits and resample() (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        extra_forwards: T.
        diagnostics: of the last call: `weight_mean`, the loss over CE; `diagnose` adds sigma per class and the ratio
            of the gradients.

    Raises:
        ParameterError: a number out of range.
        ConfigError: no resample, or one of another shape; wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, *, alpha: float = 10.0, passes: int = 10, ignore_index: int = 255) -> None:
        super().__init__()
        check_number("uce", "alpha", alpha)
        check_number("uce", "passes", passes, low=1)
        self.alpha = alpha
        self.passes = passes
        self.ignore_index = ignore_index
        #: See `lossbench.losses`: optional parts of a loss's contract.
        self.extra_forwards = passes
        self.diagnostics: dict[str, Tensor] = {}
        self._sigma: Tensor | None = None

    def forward(self, logits: Tensor, target: Tensor, resample: Resample | None = None) -> Tensor:
        if not callable(resample):
            raise ConfigError(
                "uce needs a third argument, resample: a function that returns fresh stochastic logits",
                hint="with dropout active: loss(logits, target, resample=lambda: model(images))",
            )
        pixels = prepare_labels(logits, target, self.ignore_index)
        u = resampled_moments(resample, self.passes, pixels, u_at="predicted").u
        self._sigma = u.sqrt()
        means = PixelMean(self.ignore_index)(logits, target, (1 + self._sigma).pow(self.alpha))
        tiny = torch.finfo(means.unweighted.dtype).tiny
        self.diagnostics = {"weight_mean": means.weighted / means.unweighted.clamp(min=tiny)}
        return means.loss

    def diagnose(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The `diagnostics` of the last call, and for its batch: `sigma_mean`, `sigma_p99` over the labelled pixels,
        `sigma_mean_class`, `sigma_p99_class` (C,) over those of each true class (NaN where there is none), and
        `grad_ratio`, the norm of this loss's gradient by the logits over that of CE's."""
        if self._sigma is None:
            return {}
        valid = target != self.ignore_index
        return {
            **spread(self._sigma, target, valid, logits.shape[1], "sigma"),
            **self.diagnostics,
            "grad_ratio": gradient_ratio(logits, target, valid, (1 + self._sigma).pow(self.alpha)),
        }

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, passes={self.passes}, ignore_index={self.ignore_index}"
