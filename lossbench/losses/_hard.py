"""Losses over the hardest pixels only: which those are."""

from __future__ import annotations

import torch
from torch import Tensor

from lossbench.losses._pixel import Pixels, target_log_prob, widen


@torch.no_grad()
def pixel_nll(pixels: Pixels) -> Tensor:
    """-log p_y (N, H, W), without gradient; -inf at ignored pixels, so that they are never among the hardest."""
    masked = pixels.logits.masked_fill(~pixels.valid.unsqueeze(1), 0.0)
    losses = -target_log_prob(widen(masked).log_softmax(1), pixels.target)
    return losses.masked_fill_(~pixels.valid, -torch.inf)


def at_least(losses: Tensor, number: Tensor) -> Tensor:
    """Where `losses` (N, H, W) are among the `number` (0-dim, int64) largest; all that equal the last of them too, so
    that the choice does not hang on the order of the pixels. Waits for nothing on a GPU."""
    ordered = losses.flatten().sort(descending=True).values
    place = (number - 1).clamp(0, ordered.numel() - 1)
    return (losses >= ordered.gather(0, place.view(1))) & (number > 0)


def keep(target: Tensor, kept: Tensor, ignore_index: int) -> Tensor:
    """The labels with all pixels that are not kept ignored."""
    return torch.where(kept, target, ignore_index)
