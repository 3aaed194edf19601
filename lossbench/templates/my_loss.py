"""The loss `my_loss`: replace the formula, keep the contract.

    lossbench check my_loss.py      # rules, and a card
    lossbench check my_loss.py --param epsilon=2

In a suite, beside others (compare with `lossbench run suite.yaml`):

    plugins: [./my_loss.py]
    losses:
      - ce
      - my_loss
      - {name: my_loss, epsilon: [0.5, 2.0]}   # a grid

In anybody's training loop: MyLoss(epsilon=2.0)(logits, target).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossbench.registry import register_loss


@register_loss("my_loss")
class MyLoss(nn.Module):
    """What `lossbench list` shows: mean of -log p_y + epsilon (1 - p_y).

    Source: the paper and its equation. Helps when: ... Known trap: ...

    Args:
        epsilon: weight of the second term; 0 is cross-entropy.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar.
    """

    # Keyword-only, typed, with a plain default: that is what a suite may set. Two more
    # names are filled in when asked for: num_classes: int, class_counts: Sequence[int]
    # (labelled training pixels of each class; one may be 0).
    def __init__(self, *, epsilon: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.ignore_index = ignore_index

    # A third argument `resample` (and an attribute `extra_forwards`: how often it is
    # called) asks for Monte-Carlo dropout: a function that returns fresh stochastic
    # logits of the same batch. See the docstring of lossbench.losses.
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        label = target.masked_fill(~valid, 0)
        # float32 or wider whatever comes in; nothing that ignored pixels hold (NaN,
        # even) may reach the value or the gradient.
        wide = logits if logits.dtype == torch.float64 else logits.float()
        wide = wide.masked_fill(~valid.unsqueeze(1), 0.0)
        log_p = -functional.cross_entropy(wide, label, reduction="none")  # (N, H, W)

        # ---- the formula: replace these two lines ----
        miss = -torch.expm1(log_p)  # 1 - p_y, precise near p_y = 1
        losses = -log_p + self.epsilon * miss

        # The mean over the labelled pixels; 0 with zero gradients where there are none.
        return losses.mul(valid).sum() / valid.sum().clamp(min=1)
