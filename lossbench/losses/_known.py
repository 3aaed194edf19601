"""How autograd learns of a loss whose gradient was made along with its value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossbench.losses._blocks import chained

#: Logits, and whether a gradient is wanted -> (loss, gradient in the loss's dtype or None).
Fast = Callable[[Tensor, bool], tuple[Tensor, Tensor | None]]
#: Logits -> the same loss, by operations autograd knows.
Plain = Callable[[Tensor], Tensor]


def known_gradient(logits: Tensor, fast: Fast, plain: Plain) -> Tensor:
    """The loss `fast` finds, with its gradient; differentiated twice, it goes the plain way."""
    # The function itself cannot see whether gradients are on.
    loss: Tensor = _KnownGradient.apply(logits if torch.is_grad_enabled() else logits.detach(), fast, plain)
    return loss


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, fast: Fast, plain: Plain) -> Tensor:
        ctx.plain = plain
        with torch.autocast("cpu", enabled=False):  # its matrix products would be bfloat16
            loss, grad = fast(logits.detach(), ctx.needs_input_grad[0])
        ctx.save_for_backward(logits, grad)
        return loss

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None]:
        logits, grad = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated itself
            (grad,) = torch.autograd.grad(ctx.plain(logits), logits, scale, create_graph=True)
            return grad, None, None
        return chained(grad, scale, logits.dtype), None, None
