"""Walking through logits in blocks small enough for the cache: what all fused losses share (CPU).

Every view here is (B, C, L), classes by pixels, whatever lies behind it. Contiguous logits give (N, C, H W) planes;
channels_last ones, which is what a convolutional head leaves behind, give (1, C, N H W) with stride 1 over the classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lossbench.losses._pixel import raise_label_error

#: Sums of exp(z - z_y) up to here are used as they are. Beyond, what is divided by them would leave float32's range.
LARGEST_TOTAL = 1e20
#: Elements per block: 8 MiB of float32. Fewer pay more for starting an operation, more fall out of the cache.
BLOCK = 2**21


def can_fuse(*tensors: Tensor) -> bool:
    """Whether gradients may be computed by hand, in the forward pass.

    Not on a GPU (not measured there), nor where something watches the single operations: a compiler, forward-mode
    differentiation, `torch.func`, a tensor subclass.
    """
    # The names torch.autograd.Function itself asks: there is no public way to know of torch.func's transforms.
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return all(
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and forward_ad.unpack_dual(tensor).tangent is None  # type: ignore[no-untyped-call]
        for tensor in tensors
    )


def dense(logits: Tensor) -> Tensor:
    """The logits themselves if contiguous or channels_last, else a contiguous copy. (N, C, H, W)."""
    return logits if _by_rows(logits) else logits.contiguous()


def by_class(logits: Tensor) -> Tensor:
    """View of dense (N, C, H, W) logits as (B, C, L); pixels are in the order of `target.reshape(B, L)`."""
    if _by_rows(logits):
        return logits.transpose(0, 1).flatten(1).unsqueeze(0)
    return logits.flatten(2)


def _by_rows(logits: Tensor) -> bool:
    return not logits.is_contiguous() and logits.is_contiguous(memory_format=torch.channels_last)


def blocks(view: Tensor) -> list[tuple[slice, slice, slice]]:
    """Index expressions that cut (B, C, L), and (B, 1, L), along B and L into blocks of at most BLOCK elements."""
    batch, classes, pixels = view.shape
    width = max(1, BLOCK // classes)
    count = max(1, width // max(pixels, 1))
    return [
        (slice(i, i + count), slice(None), slice(a, a + width))
        for i in range(0, batch, count)
        for a in range(0, pixels, width)
    ]


class Softmax(NamedTuple):
    """The softmax of a block, up to a division: p = terms / total, in float32 or float64.

    Attributes:
        terms: (B, C, L) exp(z - r), with r the logit of the true class.
        total: (B, 1, L) sum of the terms over the classes.
        log_p: (B, 1, L) log p of the true class, <= 0; anything finite at ignored pixels.
        mean_log_p: (B, 1, L) mean over the classes of log p_c, anything at ignored pixels; None if not asked for.
    """

    terms: Tensor
    total: Tensor
    log_p: Tensor
    mean_log_p: Tensor | None


def softmax(z: Tensor, label: Tensor, valid: Tensor, out: Tensor, *, with_mean: bool = False) -> Softmax:
    """The softmax of a block of logits, its terms in `out`.

    The true class's logit as reference spares the pass for the maximum, and its own term is exactly 1, so that
    log p_y <= 0 and precise near p_y = 1. Where p_y is below 1e-20, and where ignored pixels hold NaN or infinities,
    the block is done again with the maximum at the former and zeros at the latter; all other pixels keep their bits.

    Args:
        z: (B, C, L) logits of any floating dtype.
        label: (B, 1, L) int64, 0 at ignored pixels.
        valid: (B, 1, L) bool.
        out: (B, C, L) float32 or float64.

    Raises:
        ConfigError: a label outside 0..C-1.
    """
    at_label = _gather(z, label).to(out.dtype)
    done = _terms(z, at_label, at_label, out, with_mean)
    if float(done.total.amax()) < LARGEST_TOTAL:  # false for NaN too
        return done
    usable = done.total < LARGEST_TOTAL
    z = z.to(out.dtype).masked_fill(~valid, 0.0)
    at_label = _gather(z, label)
    reference = torch.where(usable & valid, at_label, z.amax(1, keepdim=True))
    return _terms(z, at_label, reference, out, with_mean)


def _terms(z: Tensor, at_label: Tensor, reference: Tensor, out: Tensor, with_mean: bool) -> Softmax:
    torch.sub(z, reference, out=out)
    mean = class_sum(out) / z.shape[1] if with_mean else None
    total = class_sum(out.exp_())
    log_total = total.log()
    if mean is not None:
        mean.sub_(log_total)
    log_p = log_total.neg_() if reference is at_label else (at_label - reference).sub_(log_total)
    return Softmax(out, total, log_p, mean)


def _gather(z: Tensor, label: Tensor) -> Tensor:
    try:
        return z.gather(1, label)
    except RuntimeError:
        if label.numel() and (label.min() < 0 or label.max() >= z.shape[1]):
            raise_label_error(label, z.shape[1])
        raise


def chained(grad: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """A known gradient times the derivative `scale` of what follows the loss, in the dtype of the logits.

    Rounded last: in float16 small gradients would vanish before a GradScaler's 65536, itself infinite there, saves
    them. Never in place, as the graph may be run again.
    """
    return (grad if scale == 1 else grad * scale.to(grad.dtype)).to(dtype)


def class_sum(values: Tensor) -> Tensor:
    """Sum over the classes: (B, C, L) -> (B, 1, L)."""
    if _classes_innermost(values):
        return weighted_class_sum(values, values.new_ones(values.shape[1]))
    return values.sum(1, keepdim=True)


def weighted_class_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Sum over the classes of (B, C, L) times `weights` (C,) -> (B, 1, L)."""
    if not _classes_innermost(values):
        return torch.matmul(weights, values).unsqueeze(1)
    # Adding up a short innermost axis is slow; as a product of a matrix and a vector it is not.
    rows = values.transpose(1, 2).flatten(0, 1)
    return torch.mv(rows, weights).view(values.shape[0], 1, -1)


def _classes_innermost(values: Tensor) -> bool:
    """Whether the classes are the innermost axis in memory (channels_last logits)."""
    return values.shape[1] > 1 and values.stride(1) == 1
