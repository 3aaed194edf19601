"""Losses that know how common a class is: checked pixel counts, class shares, weights from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossbench.errors import ConfigError


def checked_counts(loss: str, class_counts: Sequence[int] | Tensor) -> Tensor:
    """Labelled training pixels per class as (C,) float64.

    Raises:
        ConfigError: not one count >= 0 per class, or all 0.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if counts.ndim != 1 or not counts.isfinite().all() or (counts < 0).any() or counts.sum() <= 0:
        raise ConfigError(
            f"{loss}: class_counts must be pixel counts >= 0, one per class and not all 0, got {class_counts}"
        )
    return counts


def log_priors(counts: Tensor) -> Tensor:
    """log pi_c of counts (C,), float64. A class that was never seen counts as one pixel: log 0 is no number to add."""
    return (counts.clamp(min=1) / counts.sum()).log()


def bounded(weights: Tensor, counts: Tensor) -> Tensor:
    """Weights (C,), those of classes without a pixel set to the largest of the others: they are infinite by these
    formulae, and no pixel of the training set ever asks for them."""
    return torch.where(counts > 0, weights, weights[counts > 0].max())
