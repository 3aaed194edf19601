"""Cross-entropy with online hard example mining."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lossbench.errors import ParameterError
from lossbench.losses._fused import PixelMean
from lossbench.losses._hard import at_least, keep, pixel_nll
from lossbench.losses._pixel import check_number, prepare_labels
from lossbench.registry import register_loss


@register_loss("ohem_ce")
class OhemCrossEntropyLoss(nn.Module):
    """Cross-entropy over hard pixels: those with p_y below a threshold, but at least a given number of the hardest.

    The mean runs over the pixels that are kept. The choice has no gradient of its own.

    Source: Shrivastava et al. 2016, "Training Region-based Object Detectors with Online Hard Example Mining", for
    pixels as in ICNet, BiSeNet and OCNet (threshold 0.7, 100,000 pixels).

    Helps when most pixels are easy early; it follows difficulty, not class, and wrong labels are hard.
    Traps: the minimum is of the whole batch, so that with small crops it may be all of it: 100,000 pixels are five
    per cent of 16 crops of 512x256 and more than there are in 8 crops of 64x128, where this is cross-entropy. A share
    (`min_kept` below 1) does not depend on the crop. Several implementations take the minimum per image, or count
    ignored pixels into it. Of equally hard pixels at the border all are kept.

    Args:
        threshold: in (0, 1]; pixels with p_y below it are kept. 1 keeps all: cross-entropy in every bit.
        min_kept: pixels of the batch that are kept at least; below 1 a share of the labelled ones.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        diagnostics: of the last call: `kept`, the share of the labelled pixels.

    Raises:
        ParameterError: a number out of range.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, *, threshold: float = 0.7, min_kept: float = 100_000, ignore_index: int = 255) -> None:
        super().__init__()
        check_number("ohem_ce", "threshold", threshold, high=1)
        if threshold == 0:
            raise ParameterError("ohem_ce: threshold must be above 0", parameter="threshold")
        check_number("ohem_ce", "min_kept", min_kept)
        if min_kept > 1 and not float(min_kept).is_integer():
            raise ParameterError(
                f"ohem_ce: min_kept is a number of pixels, or a share below 1, got {min_kept:g}", parameter="min_kept"
            )
        self.threshold, self.min_kept, self.ignore_index = threshold, min_kept, ignore_index
        self.diagnostics: dict[str, Tensor] = {}

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        pixels = prepare_labels(logits, target, self.ignore_index)
        labelled = pixels.valid.sum()
        kept = pixels.valid
        if self.threshold < 1:
            losses = pixel_nll(pixels)
            kept = losses > -math.log(self.threshold)
            if self.min_kept:
                least = torch.ceil(self.min_kept * labelled) if self.min_kept < 1 else labelled.clamp(max=self.min_kept)
                kept = (kept | at_least(losses, least.long())) & pixels.valid
        self.diagnostics = {"kept": kept.sum() / labelled.clamp(min=1)}
        return PixelMean(self.ignore_index)(logits, keep(target, kept, self.ignore_index)).loss

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, min_kept={self.min_kept}, ignore_index={self.ignore_index}"
