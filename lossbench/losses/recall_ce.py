"""Recall cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossbench.losses._fused import PixelMean
from lossbench.losses._pixel import check_number, check_per_class, label_counts, prepare_labels, target_log_prob
from lossbench.registry import register_loss


@register_loss("recall_ce")
class RecallCrossEntropyLoss(nn.Module):
    """Recall cross-entropy: mean of -(1 - R_y) log p_y, R_c = recall of class c, a moving average over steps.

    Source: Tian et al. 2022, "Striking the Right Balance: Recall Loss for Semantic Segmentation". The authors' code
    takes the recall of the batch at hand: momentum 0.

    The weights follow what the network finds now, not how common a class is: a class that is missed weighs up to 1, one
    that is found weighs 0. Between cross-entropy (recall 0) and inverse-frequency weights.
    Traps: a class absent from a batch has no recall in it: its average stays as it is. A batch's own recall (momentum
    0) is noisy for classes of a few pixels. The averages are state: they belong into a checkpoint (`recall` is in the
    state_dict), and calls in eval mode do not change them. On several devices the averages are those of the first.

    Args:
        num_classes: C.
        momentum: share of the past in the moving average, in [0, 1); the first value of a class stands for its past.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        recall: (C,) float32; NaN for a class that was never seen.

    Raises:
        ParameterError: momentum out of range.
        ConfigError: another number of classes than num_classes; wrong shape or dtype, or a label outside 0..C-1 (on
            CPU).
    """

    recall: Tensor

    def __init__(self, num_classes: int, *, momentum: float = 0.9, ignore_index: int = 255) -> None:
        super().__init__()
        check_number("recall_ce", "momentum", momentum, high=1, open_high=True)
        self.momentum, self.ignore_index = momentum, ignore_index
        self.register_buffer("recall", torch.full((num_classes,), torch.nan))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        pixels = prepare_labels(logits, target, self.ignore_index)
        check_per_class(self.recall, logits, "recall_ce, num_classes")
        truth = label_counts(pixels)
        # A tie counts as found: an argmax would take the lowest index, which favours the first classes.
        scores = logits.detach()
        right = pixels.valid & (target_log_prob(scores, pixels.target) >= scores.amax(1))
        found = label_counts(pixels._replace(target=pixels.target.where(right, 0), valid=right))
        recall = torch.where(truth > 0, found / truth.clamp(min=1), self.recall)
        recall = torch.where(self.recall.isnan(), recall, torch.lerp(recall, self.recall, self.momentum))
        if self.training:
            self.recall.copy_(recall)
        return PixelMean(self.ignore_index, class_weights=1 - recall.nan_to_num())(logits, target).loss

    def extra_repr(self) -> str:
        return f"momentum={self.momentum}, ignore_index={self.ignore_index}"
