"""Seesaw loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lossbench.losses._fused import PixelMean
from lossbench.losses._pixel import check_number, check_per_class, label_counts, prepare, target_log_prob
from lossbench.registry import register_loss


@register_loss("seesaw")
class SeesawLoss(nn.Module):
    """Seesaw loss: mean of -log(e^{z_y} / (e^{z_y} + sum_{j != y} M_yj C_yj e^{z_j})).

    Mitigation M_yj = (N_j / N_y)^p where N_y > N_j, else 1: a frequent class y pushes rarer ones down less.
    Compensation C_yj = (p_j / p_y)^q where p_j > p_y, else 1: but a class that is wrongly ahead is pushed down more.
    N_c = labelled pixels of class c in all training batches so far, this one included, at least 1.

    Source: Wang et al. 2021, "Seesaw Loss for Long-Tailed Instance Segmentation", eq. 4 to 7 (p 0.8, q 2); the softmax
    part for pixels. Its normalised mask head and objectness branch are not part of it.

    p = q = 0 is cross-entropy in every bit.
    Traps: the cumulative counts are state: they belong into a checkpoint (`counts` is in the state_dict), and calls in
    eval mode do not add to them. As in the authors' code the factors are constants to the gradient; there p_y in C_yj
    is at least 0.01, here it has no bound, as in the paper. On several devices the counts are those of the first.

    Args:
        num_classes: C.
        p: mitigation exponent >= 0.
        q: compensation exponent >= 0.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        counts: (C,) int64, the pixels so far.

    Raises:
        ParameterError: p or q negative or not finite.
        ConfigError: another number of classes than num_classes; wrong shape or dtype, or a label outside 0..C-1 (on
            CPU).
    """

    counts: Tensor

    def __init__(self, num_classes: int, *, p: float = 0.8, q: float = 2.0, ignore_index: int = 255) -> None:
        super().__init__()
        check_number("seesaw", "p", p)
        check_number("seesaw", "q", q)
        self.p, self.q, self.ignore_index = p, q, ignore_index
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.int64))
        #: See `lossbench.losses`: optional parts of a loss's contract.
        self.conformance_exceptions = (
            {"gradcheck": "the compensation factors depend on the logits, but the gradient takes them as constants"}
            if q
            else {}
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        pixels = prepare(logits, target, self.ignore_index)
        check_per_class(self.counts, logits, "seesaw, num_classes")
        if self.training:
            self.counts += label_counts(pixels)
        adjusted = pixels.logits
        if self.p or self.q:
            adjusted = adjusted + self._log_factors(adjusted.detach(), pixels.target)
        return PixelMean(self.ignore_index)(adjusted, target).loss

    @torch.no_grad()
    def _log_factors(self, logits: Tensor, target: Tensor) -> Tensor:
        """log(M_yj C_yj), (N, C, H, W); 0 at j = y."""
        # log C = q max(0, log p_j - log p_y); the softmax's normaliser drops out of the difference.
        factors = (logits - target_log_prob(logits, target).unsqueeze(1)).clamp_(min=0).mul_(self.q)
        if self.p:
            log_counts = self.counts.clamp(min=1).to(logits.dtype).log()
            ratios = self.p * (log_counts.unsqueeze(0) - log_counts.unsqueeze(1)).clamp(max=0)  # [y, j]
            factors += ratios[target].movedim(-1, 1)
        return factors

    def extra_repr(self) -> str:
        return f"p={self.p}, q={self.q}, ignore_index={self.ignore_index}"
