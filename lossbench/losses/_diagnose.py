"""What losses tell about themselves at the log points of a run: spread per class, size of a term's gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from lossbench.losses._pixel import widen


def percentile_rank(count: Tensor) -> Tensor:
    """The rank, from 0, of the 99th percentile of `count` >= 1 sorted values: the least value that 99 % of them do not
    exceed."""
    return (99 * count + 99).div(100, rounding_mode="floor") - 1


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # which knows no float64


@torch.no_grad()
def spread(values: Tensor, target: Tensor, valid: Tensor, classes: int, name: str) -> dict[str, Tensor]:
    """Mean and 99th percentile of a map over the labelled pixels, and over those of each true class.

    Args:
        values: (N, H, W) floating.
        target: (N, H, W) int64 in 0..classes-1 where valid.
        valid: (N, H, W) bool.
        name: what the values are called.

    Returns: `name_mean`, `name_p99` (0-dim) and `name_mean_class`, `name_p99_class` (classes,), NaN where no labelled
        pixel is.
    """
    wide = _widest(values.device)
    ordered, order = values[valid].to(wide).sort()
    label = target[valid][order]
    # Stable: within a class the values stay sorted.
    label, by_class = label.sort(stable=True)
    grouped = ordered[by_class]
    counts = torch.zeros(classes, dtype=torch.int64, device=values.device)
    counts.scatter_add_(0, label, torch.ones_like(label))
    sums = torch.zeros(classes, dtype=wide, device=values.device).scatter_add_(0, label, grouped)
    nothing = torch.full_like(sums, torch.nan)
    p99 = nothing
    if len(grouped):
        last = counts.cumsum(0) - counts + percentile_rank(counts.clamp(min=1))
        p99 = torch.where(counts > 0, grouped[last.clamp(max=len(grouped) - 1)], nothing)
    return {
        f"{name}_mean": ordered.mean(),
        f"{name}_p99": ordered[percentile_rank(counts.sum())] if len(ordered) else nothing[0],
        f"{name}_mean_class": sums / counts,
        f"{name}_p99_class": p99,
    }


@torch.no_grad()
def gradient_ratio(logits: Tensor, target: Tensor, valid: Tensor, weight: Tensor) -> Tensor:
    """||grad of the mean of w (-log p_y)|| / ||grad of the mean of -log p_y||, Euclidean, by the logits; 0-dim.

    Cross-entropy's gradient at a pixel is (p - onehot) / n, that of the weighted mean w times as much: nothing is
    differentiated here. NaN where no pixel is labelled or cross-entropy's gradient is 0.

    Args:
        logits: (N, C, H, W) floating.
        target: (N, H, W) int64 in 0..C-1 where valid.
        weight: (N, H, W), w, held fixed.
    """
    wide = _widest(logits.device)
    weighted = torch.zeros((), dtype=wide, device=logits.device)
    plain = weighted.clone()
    for z, y, here, w in zip(logits, target, valid, weight, strict=True):  # a softmax of one image at a time
        p = widen(z.masked_fill(~here, 0.0)).softmax(0)
        p_y = p.gather(0, y.masked_fill(~here, 0)[None])[0]
        # sum_c (p_c - [c = y])^2; 1 - p_y squared by itself, for near p_y = 1 the rest cancels.
        squares = p.square().sum(0) - p_y.square() + (1 - p_y).square()
        squares = squares.to(wide).masked_fill(~here, 0.0)
        plain += squares.sum()
        weighted += (squares * w.to(wide).square()).sum()
    return (weighted / plain).sqrt()
