"""Weights of the Lovász extension from counts of pixels per bin of the error, instead of a sort."""

from __future__ import annotations

import torch
from torch import Tensor


def bin_weights(counts: Tensor) -> Tensor:
    """Subgradient of the Lovász extension of the Jaccard loss at errors that are known by bin only.

    Within a bin foreground comes first, and equal errors share the growth of the loss evenly: going down from the
    largest error, with I foreground pixels left and a union of U at the start of a bin of f foreground and b background
    pixels, 1 - I/U grows by f/U, then by (I - f) (1/U - 1/(U + b)).

    These weights w are a subgradient at the errors e' rounded down to the lower edges of their bins. The extension L is
    convex, its weights are >= 0 and sum to at most 1, so with K bins, for the true errors e:

        0 <= L(e) - <w, e> <= L(e) - L(e') <= max |e - e'| < 1/K.

    Args:
        counts: (C, 2, B) int64, background and foreground pixels per class and bin, bins in ascending order.

    Returns:
        (C, 2, B) float64 weights of a background and of a foreground pixel; of background 0 in a class without
        foreground.
    """
    background, foreground = counts.flip(-1).double().unbind(1)
    total = foreground.sum(-1, keepdim=True)
    left = total - foreground.cumsum(-1)
    after = total + background.cumsum(-1)
    # The guards matter where a class is absent: nothing there uses the values.
    before = (after - background).clamp(min=1)
    return torch.stack([left / (before * after.clamp(min=1)), 1 / before], 1).flip(-1)
