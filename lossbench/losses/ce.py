"""Cross-entropy."""

from __future__ import annotations

from torch import Tensor, nn

from lossbench.losses._fused import PixelMean
from lossbench.losses._pixel import check_number
from lossbench.registry import register_loss


def cross_entropy(logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0, ignore_index: int = 255) -> Tensor:
    """Mean of -log p_y over the labelled pixels; see `CrossEntropyLoss`."""
    return PixelMean(ignore_index, smoothing=label_smoothing)(logits, target).loss


@register_loss("ce")
class CrossEntropyLoss(nn.Module):
    """Cross-entropy, the baseline: mean of -log p_y over the labelled pixels.

    With label smoothing eps, the target distribution is (1 - eps) one-hot + eps / C (Szegedy et al. 2016), as in
    `torch.nn.CrossEntropyLoss`; eps = 0 is plain cross-entropy.

    Source: Su et al. 2022, eq. 1.

    Every pixel weighs the same, so frequent classes dominate: what all other losses here try to mend.
    Trap: a mean that counts ignored pixels shrinks with the share of void; this one does not. A batch without any
    labelled pixel gives 0 (torch gives NaN).

    Args:
        label_smoothing: eps in [0, 1).
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: label_smoothing outside [0, 1).
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    def __init__(self, *, label_smoothing: float = 0.0, ignore_index: int = 255) -> None:
        super().__init__()
        check_number("ce", "label_smoothing", label_smoothing, high=1, open_high=True)
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(logits, target, label_smoothing=self.label_smoothing, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        return f"label_smoothing={self.label_smoothing}, ignore_index={self.ignore_index}"
