"""Lovász-softmax."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from lossbench.errors import ParameterError
from lossbench.losses._blocks import can_fuse
from lossbench.losses._known import known_gradient
from lossbench.losses._lovasz_exact import exact
from lossbench.losses._lovasz_histogram import histogram
from lossbench.losses._lovasz_plain import histogram_weights, lovasz_weights, plain
from lossbench.losses._pixel import check_batch, check_choice
from lossbench.registry import register_loss

#: Beyond this the tables outgrow the logits of most batches.
MAX_BINS = 2**16


def lovasz_softmax(
    logits: Tensor,
    target: Tensor,
    *,
    method: Literal["exact", "histogram"] = "exact",
    bins: int = 4096,
    ignore_index: int = 255,
) -> Tensor:
    """Lovász-softmax over the classes present in the batch; see `LovaszSoftmaxLoss`."""
    check_batch(logits, target)
    weigh = lovasz_weights if method == "exact" else partial(histogram_weights, bins=bins)
    # float64 errors do not fit the keys that are sorted.
    if not can_fuse(logits) or (method == "exact" and logits.dtype == torch.float64):
        return plain(logits, target, ignore_index, weigh)

    def fast(detached: Tensor, with_grad: bool) -> tuple[Tensor, Tensor | None]:
        if method == "exact":
            return exact(detached, target, ignore_index, with_grad)
        return histogram(detached, target, ignore_index, bins, with_grad)

    return known_gradient(logits, fast, lambda watched: plain(watched, target, ignore_index, weigh))


@register_loss("lovasz_softmax")
class LovaszSoftmaxLoss(nn.Module):
    """Lovász-softmax: the Lovász extension of the Jaccard loss over the softmax errors, mean over classes present.

    Per class c, errors m = 1 - p_c at pixels of the class and p_c elsewhere; the loss is the extension of
    1 - |intersection| / |union| to such m, over all labelled pixels of the batch. At one-hot predictions it equals
    1 - mIoU over the classes present in the target.

    Source: Berman et al. 2018, eq. 8, 9 and 11, alg. 1.

    Optimises mean IoU itself, so that rare classes weigh as much as frequent ones.
    Traps: training from scratch at cross-entropy's learning rate is known to be poor (it is usually a fine-tuning loss,
    or summed with cross-entropy); per-image and per-batch versions, and means over all instead of present classes, are
    different losses. A class absent from the batch's target does not count, even where it is predicted.
    A batch without any labelled pixel gives 0.

    The extension is a sum of weights times errors, the weights depending on the order of the errors alone.
    Method exact sorts the errors of each class present. Method histogram counts them in `bins` bins and lets errors
    within a bin share their weight: a value between the exact one and 1 / bins below it, and its gradient.

    On a GPU, and with float64 logits for method exact, it is done operation by operation in torch (`_lovasz_plain`),
    without waiting for the device. On a CPU the gradient is written in the forward pass. NaN or infinity among a
    labelled pixel's logits makes the loss NaN. Where errors are equal any order is right; the one taken is always the
    same, whatever the number of threads.

    Args:
        method: how the errors are ordered.
        bins: number of bins of the method histogram, of equal width over [0, 1].
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: an unknown method, or bins outside 1..65536.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(
        self, *, method: Literal["exact", "histogram"] = "exact", bins: int = 4096, ignore_index: int = 255
    ) -> None:
        super().__init__()
        check_choice("lovasz_softmax", "method", method, ("exact", "histogram"))
        if not 1 <= bins <= MAX_BINS:
            raise ParameterError(f"lovasz_softmax: bins must be in [1, {MAX_BINS}], got {bins}", parameter="bins")
        self.method: Literal["exact", "histogram"] = method
        self.bins = bins
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return lovasz_softmax(logits, target, method=self.method, bins=self.bins, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        bins = f", bins={self.bins}" if self.method == "histogram" else ""
        return f"method={self.method}{bins}, ignore_index={self.ignore_index}"
