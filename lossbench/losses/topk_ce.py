"""Top-k cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossbench.errors import ParameterError
from lossbench.losses._fused import PixelMean
from lossbench.losses._hard import at_least, keep, pixel_nll
from lossbench.losses._pixel import check_number, prepare_labels
from lossbench.registry import register_loss


@register_loss("topk_ce")
class TopKCrossEntropyLoss(nn.Module):
    """Top-k cross-entropy: mean of -log p_y over the k per cent of the batch's labelled pixels where it is largest.

    Source: Wu et al. 2016, "Bridging Category-level and Instance-level Semantic Image Segmentation" (online
    bootstrapping); k = 10 as in nnU-Net's TopK loss (Isensee et al. 2021).

    Easy pixels, whichever their class, drop out; rare classes gain as far as they are hard. Wrong labels are hard too.
    k = 100 is cross-entropy in every bit. Trap: ignored pixels, of loss 0, that take part in the count of k per cent.
    Of equally hard pixels at the border all are kept. The choice has no gradient of its own.

    Args:
        k: per cent in (0, 100], rounded up to whole pixels.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: k out of range.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, *, k: float = 10.0, ignore_index: int = 255) -> None:
        super().__init__()
        check_number("topk_ce", "k", k, high=100)
        if k == 0:
            raise ParameterError("topk_ce: k must be above 0", parameter="k")
        self.k, self.ignore_index = k, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.k < 100:
            pixels = prepare_labels(logits, target, self.ignore_index)
            number = torch.ceil(pixels.valid.sum().double() * (self.k / 100)).long()
            target = keep(target, at_least(pixel_nll(pixels), number) & pixels.valid, self.ignore_index)
        return PixelMean(self.ignore_index)(logits, target).loss

    def extra_repr(self) -> str:
        return f"k={self.k}, ignore_index={self.ignore_index}"
