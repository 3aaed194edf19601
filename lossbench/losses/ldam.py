"""Label-distribution-aware margin loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lossbench.errors import ParameterError
from lossbench.losses._fused import PixelMean
from lossbench.losses._pixel import check_number, check_per_class, prepare_labels, target_log_prob, widen
from lossbench.losses._priors import checked_counts
from lossbench.registry import register_loss


@register_loss("ldam")
class LdamLoss(nn.Module):
    """LDAM: CE(s (z - Delta_y at the true class)), Delta_c = m (n_c / min n)^(-1/4): the rarest class has margin m.

    n_c = labelled training pixels of class c.

    Source: Cao et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", eq. 10 to 13;
    m 0.5 and s 30 as in the authors' code. Their deferred re-weighting (DRW) is not part of it: sum it with
    `class_balanced` for a like effect.

    A larger margin for rarer classes. m = 0, s = 1 is cross-entropy in every bit.
    Traps: the authors' network ends in a cosine classifier, whose logits lie in [-1, 1] and need the scale. Logits of
    a segmentation network are not bounded: s = 30 multiplies them, and the loss's gradient with them, by 30, at a
    learning rate that was chosen for cross-entropy. Tune the rate, or set s = 1. A class without a training pixel
    has the margin m too, and min n is over the classes that have some: it must not shrink the margins of the others.

    Args:
        class_counts: (C,) labelled pixels per class over the training set.
        margin: m >= 0, that of the rarest class.
        scale: s > 0.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: margin or scale out of range.
        ConfigError: class_counts negative, all zero or of another number of classes than the logits; wrong shape or
            dtype, or a label outside 0..C-1 (on CPU).
    """

    margins: Tensor

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        *,
        margin: float = 0.5,
        scale: float = 30.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_number("ldam", "margin", margin)
        check_number("ldam", "scale", scale)
        if scale == 0:
            raise ParameterError("ldam: scale must be above 0", parameter="scale")
        self.margin, self.scale, self.ignore_index = margin, scale, ignore_index
        counts = checked_counts("ldam", class_counts)
        rarest = counts[counts > 0].min()
        margins = margin * (counts.clamp(min=rarest) / rarest) ** -0.25
        self.register_buffer("margins", margins.float(), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        pixels = prepare_labels(logits, target, self.ignore_index)
        check_per_class(self.margins, logits, "ldam, class_counts")
        wide = widen(logits)
        margins = self.margins.to(wide.dtype).view(1, -1, 1, 1).expand_as(wide)
        own = target_log_prob(margins, pixels.target).unsqueeze(1)
        shifted = wide.scatter_add(1, pixels.target.unsqueeze(1), -own)
        return PixelMean(self.ignore_index)(self.scale * shifted, target).loss

    def extra_repr(self) -> str:
        return f"margin={self.margin}, scale={self.scale}, ignore_index={self.ignore_index}"
