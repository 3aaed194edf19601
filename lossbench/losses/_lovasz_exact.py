"""Exact Lovász-softmax by one sort of packed integers per class (CPU, float32).

numpy sorts int64 by vector instructions, several times faster than any sort that carries an index along. So the index
travels within the key: error, whether the pixel is foreground, and its index, from high bits to low.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.losses._blocks import blocks, by_class
from lossbench.losses._lovasz_fused import not_finite, probabilities, through_softmax

#: Below so many elements starting threads costs more than they save.
PARALLEL = 2**20
_INDEX = 2**32 - 1


def exact(logits: Tensor, target: Tensor, ignore_index: int, with_grad: bool) -> tuple[Tensor, Tensor | None]:
    """(loss, gradient if asked for); see `lovasz_softmax`. Logits of any dtype but float64.

    Memory: two tensors of the logits' size, and about 40 bytes per pixel and thread.

    Raises:
        ConfigError: a label outside 0..C-1.
    """
    logits = logits.contiguous()  # classes are sorted one by one
    z = by_class(logits)
    grad = torch.empty_like(logits, dtype=torch.float32)
    prob = by_class(grad)
    batch, classes, pixels = z.shape
    label = target.reshape(batch, 1, pixels)
    valid = label != ignore_index
    at_label = torch.empty(label.shape, dtype=torch.float32)
    for here in blocks(z):
        errors = probabilities(z[here], torch.where(valid[here], label[here], 0), valid[here], prob[here])
        if errors is None:
            return not_finite(logits, target, ignore_index)
        at_label[here] = errors
    members = by_label(torch.where(valid, label, classes).numpy().ravel(), classes)
    weights = torch.zeros(classes, batch, pixels)
    planes, foreground_errors = prob.numpy(), at_label.numpy().ravel()
    # View after view, so that no thread works on tensors: torch would start threads of its own in each.
    flat = weights.view(classes, -1).numpy()

    def rank(c: int) -> float:
        return weigh(planes[:, c].flatten(), members[c], foreground_errors[members[c]], flat[c])

    present = [c for c in range(classes) if len(members[c])]
    workers = torch.get_num_threads() if z.numel() >= PARALLEL else 1
    if workers > 1:
        # Made anew: threads that outlive the call would not survive a fork.
        with ThreadPoolExecutor(workers) as pool:
            values = list(pool.map(rank, present))
    else:
        values = [rank(c) for c in present]
    share = 1 / max(len(present), 1)
    if with_grad:
        for here in blocks(z):
            through_softmax(prob[here], weights.transpose(0, 1)[here] * share)
    return torch.tensor(sum(values) * share, dtype=torch.float32), grad if with_grad else None


def by_label(labels: NDArray[np.int64], classes: int) -> list[NDArray[np.int64]]:
    """Indices of the pixels of each class, ascending; labels (P,) in 0..classes, the last one left out."""
    narrow = labels.astype(np.uint8 if classes < 2**8 else np.uint16 if classes < 2**16 else np.int64)  # radix sort
    ends = np.bincount(labels, minlength=classes + 1)[:classes].cumsum()
    return np.split(np.argsort(narrow, kind="stable"), ends)[:classes]


def weigh(
    errors: NDArray[np.float32],
    foreground: NDArray[np.int64],
    foreground_errors: NDArray[np.float32],
    out: NDArray[np.float32],
) -> float:
    """Weights of one class into `out`, +w at background and -w at foreground; see `lovasz_weights` for w.

    Background below all foreground has the weight 0, as nothing is left to lose there (I = 0); it isn't sorted, and
    `out` is left alone there.

    Args:
        errors: (P,) in [0, 1], or -0.0 where a pixel must not count. What it holds at foreground is not read, and it
            is overwritten.
        foreground: (G,) indices of the foreground, G >= 1.
        foreground_errors: (G,) its errors.
        out: (P,), zeros.

    Returns:
        <w, e>.
    """
    errors[foreground] = foreground_errors
    # Not negative floats are ordered as their bits are; -0.0 is the least integer.
    bits = errors.view(np.int32)
    chosen = bits >= bits[foreground].min()
    bits <<= 1
    bits[foreground] |= 1
    key = bits[chosen].astype(np.int64)
    key <<= 32
    key |= np.flatnonzero(chosen)
    key.sort()
    bits = (key >> 32).astype(np.int32)
    key &= _INDEX
    hit = np.flatnonzero((bits & 1) != 0)
    first = hit[0]  # below it only background of the same error
    bits, key, hit = bits[first:], key[first:], hit - first
    bits >>= 1
    # Going up from the smallest error: so many foreground pixels lie below, I, so many pixels of any kind above.
    intersection = np.zeros(len(key) + 1, dtype=np.int32)
    intersection[hit + 1] = 1
    intersection = np.cumsum(intersection[:-1], dtype=np.int32)
    union = (np.arange(len(key), 0, -1, dtype=np.int32) + intersection).astype(np.float32)
    at_foreground = 1 / union[hit]
    union[0] = 2  # is foreground; only lest the next line divides by 0
    weight = intersection.astype(np.float32) / (union * (union - 1))
    weight[hit] = at_foreground
    value = float((weight * bits.view(np.float32)).sum())
    weight[hit] = -at_foreground
    out[key] = weight
    return value
