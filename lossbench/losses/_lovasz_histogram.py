"""Lovász-softmax without a sort: errors counted by bin, weights by bin, looked up (CPU)."""

from __future__ import annotations

import torch
from torch import Tensor

from lossbench.losses._blocks import blocks, by_class, dense
from lossbench.losses._lovasz_fused import not_finite, probabilities, through_softmax
from lossbench.losses._lovasz_tables import bin_weights
from lossbench.losses._pixel import wide_dtype


def histogram(
    logits: Tensor, target: Tensor, ignore_index: int, bins: int, with_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """(loss, gradient if asked for); see `lovasz_softmax`. Memory: two tensors of the logits' size.

    Raises:
        ConfigError: a label outside 0..C-1.
    """
    wide, logits = wide_dtype(logits), dense(logits)
    z = by_class(logits)
    grad = torch.empty_like(logits, dtype=wide)
    prob = by_class(grad)
    batch, classes, pixels = z.shape
    label = target.reshape(batch, 1, pixels)
    valid = label != ignore_index
    size = 2 * (bins + 1)  # of a class's table: background, then foreground
    start = torch.arange(0, classes * size, size, dtype=torch.int32).view(1, classes, 1)
    memory = torch.empty(z.numel(), dtype=torch.int32)
    places = [
        (here, part)
        for here, part in zip(blocks(z), torch.split(memory, [z[h].numel() for h in blocks(z)]), strict=True)
    ]
    for here, part in places:
        known = valid[here]
        truth = torch.where(known, label[here], 0)
        errors = probabilities(z[here], truth, known, prob[here])
        if errors is None:
            return not_finite(logits, target, ignore_index)
        index = like(prob[here], part).copy_(prob[here] * bins).add_(start)
        # Ignored pixels stay where their -0.0 put them, in bin 0 of the background, and are subtracted below.
        hit = (errors * bins).int() + (bins + 1) + truth.int() * size
        index.scatter_(1, truth, hit.masked_fill_(~known, 0))
    counts = torch.bincount(memory, minlength=classes * size).view(classes, 2, bins + 1)
    counts[:, 0, 0] -= valid.numel() - valid.sum()
    weights = bin_weights(counts)
    weights /= counts[:, 1].any(1).sum().clamp(min=1)
    # The gradient to p is w at background and -w at foreground, where the error is 1 - p. So <w, e> is its product
    # with p, and the sum of the foreground's weights.
    value = float((weights[:, 1] * counts[:, 1]).sum())
    weights[:, 1].neg_()
    lookup = weights.flatten().to(wide)
    for here, part in places:
        inner = through_softmax(prob[here], like(prob[here], lookup.index_select(0, part)))
        # Numpy adds up in the same order for any number of threads.
        value += float(inner.numpy().sum(dtype="float64"))
    return torch.tensor(max(value, 0.0), dtype=wide), grad if with_grad else None


def like(model: Tensor, memory: Tensor) -> Tensor:
    """View of contiguous `memory` in the shape of `model` (B, C, L), with its innermost axis innermost."""
    batch, classes, pixels = model.shape
    if model.stride(2) == 1:
        return memory.view(batch, classes, pixels)
    return memory.view(batch, pixels, classes).transpose(1, 2)
