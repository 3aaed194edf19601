"""Lovász-softmax operation by operation in torch, differentiated by autograd: the reference, and the way on a GPU.

Both methods are the same sum of weights times errors; they differ in where the weights come from.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lossbench.losses._lovasz_tables import bin_weights
from lossbench.losses._pixel import prepare, target_log_prob

#: errors (P,), negative at ignored pixels, and foreground (P,) bool, of one class -> weights (P,).
Weigh = Callable[[Tensor, Tensor], Tensor]


def lovasz_weights(errors: Tensor, foreground: Tensor) -> Tensor:
    """Subgradient of the Lovász extension of the Jaccard loss at `errors`, for one class.

    With G foreground pixels, and n pixels of which F foreground among the largest errors up to and including this one,
    I = G - F, U = G + n - F: the Jaccard loss 1 - I/U grows in this step by 1/U at a foreground pixel and by
    I / (U (U - 1)) at a background pixel. This closed form (Berman et al. 2018, alg. 1 differences 1 - I/U, which
    loses half of float32's digits where U is large) is exact to rounding.

    Args:
        errors: (P,) float, the larger the worse. Pixels that must not count have an error below all others; with no
            foreground left (I = 0) their weight is exactly 0.
        foreground: (P,) bool. Without any, all weights of background are 0.

    Returns:
        (P,) weights >= 0 in the order of `errors`.
    """
    order = errors.argsort(descending=True)
    hit = foreground[order]
    seen = hit.cumsum(0)
    total = seen[-1]
    rank = torch.arange(1, len(errors) + 1, device=errors.device)
    intersection = (total - seen).to(errors.dtype)
    union = (total + rank - seen).to(errors.dtype)
    # The guard is only for foreground pixels, where U - 1 may be 0 and the value is not used.
    step = torch.where(hit, 1 / union, intersection / union / (union - 1).clamp(min=1))
    return torch.empty_like(step).scatter_(0, order, step)


def histogram_weights(errors: Tensor, foreground: Tensor, bins: int) -> Tensor:
    """The same at the errors rounded down to multiples of 1 / bins, equal errors sharing; see `bin_weights`.

    Args:
        errors: (P,) float in [0, 1], or negative where a pixel must not count.
        foreground: (P,) bool.

    Returns:
        (P,) weights >= 0.
    """
    counts = bins + 1
    # NaN fits no bin; the loss becomes NaN by the error itself.
    index = (errors.nan_to_num(0.0).clamp(0, 1) * bins).long() + counts * foreground
    # Counted in integers: sums of floats in the order of a GPU's threads would differ from run to run.
    histogram = torch.zeros(2 * counts, dtype=torch.int64, device=errors.device)
    histogram.scatter_add_(0, index, (errors >= 0).long())
    return bin_weights(histogram.view(1, 2, counts)).to(errors.dtype).flatten()[index]


def plain(logits: Tensor, target: Tensor, ignore_index: int, weigh: Weigh = lovasz_weights) -> Tensor:
    """Lovász-softmax with the weights `weigh` finds.

    Waits nowhere for the device: which classes are present is never read, an absent one gets the weight 0.

    Raises:
        ConfigError: see `check_batch`, or a label outside 0..C-1 (on a GPU torch stops with an assertion instead).
    """
    pixels = prepare(logits, target, ignore_index)
    log_prob = pixels.logits.log_softmax(1)
    target_log_prob(log_prob, pixels.target)  # checks the labels, with or without a device to wait for
    labels = pixels.target.masked_fill(~pixels.valid, -1)
    total = log_prob.new_zeros(())
    present = torch.zeros((), dtype=torch.int64, device=logits.device)
    # One gradient of the size of prob from unbind; indexing prob[:, c] would make one per class.
    for label, plane in enumerate(log_prob.exp().unbind(1)):
        foreground = labels == label
        exists = foreground.any()
        # On a CPU the answer costs nothing, and an absent class no sort.
        if exists.device.type == "cpu" and not exists:
            total = total + 0.0 * plane.sum()
            continue
        errors = torch.where(foreground, 1 - plane, plane)
        with torch.no_grad():
            ranked = errors.masked_fill(~pixels.valid, -1.0)
            weights = weigh(ranked.flatten(), foreground.flatten()).view_as(errors)
            weights = weights.masked_fill(~(pixels.valid & exists), 0.0)
        # The extension is linear in the errors as long as their order stays: its gradient is the weights, and none
        # goes through the sort.
        total = total + (weights * errors).sum()
        present = present + exists
    return total / present.clamp(min=1)
