"""What the fast ways to Lovász-softmax share (CPU): softmax, and the gradient of the softmax.

The gradient to the probabilities are the weights, +w at background and -w at foreground, known as soon as the errors
are ranked. So it is taken through the softmax in the forward pass, block by block, into the probabilities' own memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossbench.losses._blocks import class_sum, softmax
from lossbench.losses._pixel import wide_dtype


def probabilities(z: Tensor, label: Tensor, valid: Tensor, out: Tensor) -> Tensor | None:
    """Write softmax(z) to `out`, -0.0 at ignored pixels: it ranks below every error, and no gradient passes it.

    Args:
        z: (B, C, L) logits of any floating dtype.
        label: (B, 1, L) int64, 0 at ignored pixels.
        valid: (B, 1, L) bool.
        out: (B, C, L) float32 or float64.

    Returns:
        The error of the true class, 1 - p_y, precise near p_y = 1; anything at ignored pixels. None where a labelled
        pixel has no softmax (NaN or infinity among its logits).

    Raises:
        ConfigError: a label outside 0..C-1.
    """
    done = softmax(z, label, valid, out)
    if not float(done.total.amax()) < torch.inf:  # true for NaN too
        return None
    out.mul_(done.total.reciprocal_().masked_fill_(~valid, -0.0))
    return done.log_p.expm1_().abs_()  # of numbers <= 0; never -0.0


def through_softmax(prob: Tensor, weights: Tensor) -> Tensor:
    """Turn `prob` (B, C, L) into the gradient to the logits; `weights`, the one to the probabilities, is overwritten.

    Returns:
        sum_c weights prob, (B, 1, L).
    """
    weights.mul_(prob)
    inner = class_sum(weights)
    torch.addcmul(weights, prob, inner, value=-1, out=prob)
    return inner


def not_finite(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """What becomes of a labelled pixel without softmax: loss and gradients are NaN, but for ignored pixels."""
    ignored = (target == ignore_index).unsqueeze(1)
    wide = wide_dtype(logits)
    grad = torch.full_like(logits, torch.nan, dtype=wide).masked_fill_(ignored, 0.0)
    return torch.tensor(torch.nan, dtype=wide), grad
