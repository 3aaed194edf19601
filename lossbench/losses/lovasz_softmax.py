"""Lovász-softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossbench.losses._pixel import label_counts, prepare
from lossbench.registry import register_loss


def lovasz_weights(errors: Tensor, foreground: Tensor) -> Tensor:
    """Subgradient of the Lovász extension of the Jaccard loss at `errors`, for one class.

    With G foreground pixels, and n pixels of which F foreground among the largest errors up to and including this one,
    I = G - F, U = G + n - F: the Jaccard loss 1 - I/U grows in this step by 1/U at a foreground pixel and by
    I / (U (U - 1)) at a background pixel. This closed form (Berman et al. 2018, alg. 1 differences 1 - I/U, which
    loses half of float32's digits where U is large) is exact to rounding.

    Args:
        errors: (P,) float, the larger the worse. Pixels that must not count have an error below all others; with no
            foreground left (I = 0) their weight is exactly 0.
        foreground: (P,) bool, at least one true.

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


def lovasz_softmax(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Lovász-softmax over the classes present in the batch; see `LovaszSoftmaxLoss`."""
    pixels = prepare(logits, target, ignore_index)
    prob = pixels.logits.softmax(1)
    labels = pixels.target.masked_fill(~pixels.valid, -1)
    # The one host synchronisation: the number of sorts depends on it.
    present: list[int] = label_counts(pixels).nonzero().flatten().tolist()
    # One gradient of the size of prob from unbind; indexing prob[:, c] would make one per class.
    planes = prob.unbind(1)
    total = (prob * 0.0).sum() if not present else prob.new_zeros(())
    for label in present:
        foreground = labels == label
        errors = torch.where(foreground, 1 - planes[label], planes[label])
        with torch.no_grad():
            ranked = errors.masked_fill(~pixels.valid, -1.0)
            weights = lovasz_weights(ranked.flatten(), foreground.flatten()).view_as(errors)
        # The extension is linear in the errors as long as their order stays: its gradient is the weights, and none
        # goes through the sort.
        total = total + (weights * errors).sum()
    return total / max(len(present), 1)


@register_loss("lovasz_softmax")
class LovaszSoftmaxLoss(nn.Module):
    """Lovász-softmax: the Lovász extension of the Jaccard loss over the softmax errors, mean over classes present.

    Per class c, errors m = 1 - p_c at pixels of the class and p_c elsewhere; the loss is the extension of
    1 - |intersection| / |union| to such m, exact (by sorting), over all labelled pixels of the batch. At one-hot
    predictions it equals 1 - mIoU over the classes present in the target.

    Source: Berman et al. 2018, eq. 8, 9 and 11, alg. 1.

    Optimises mean IoU itself, so that rare classes weigh as much as frequent ones.
    Traps: training from scratch at cross-entropy's learning rate is known to be poor (it is usually a fine-tuning loss,
    or summed with cross-entropy); per-image and per-batch versions, and means over all instead of present classes, are
    different losses. A class absent from the batch's target does not count, even where it is predicted.
    A batch without any labelled pixel gives 0.

    Cost: one sort of all pixels of the batch per class present, and one host synchronisation.

    Args:
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ConfigError: wrong shape or dtype, or a label outside 0..C-1.
    """

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return lovasz_softmax(logits, target, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        return f"ignore_index={self.ignore_index}"
