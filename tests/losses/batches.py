"""Batches for the tests of the losses."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

VOID = 255


def batch(
    seed: int = 0,
    classes: int = 4,
    size: tuple[int, int, int] = (2, 3, 4),
    dtype: torch.dtype = torch.float64,
    void: float = 0.2,
    scale: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """Random logits (N, C, H, W) and labels (N, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    n, h, w = size
    logits = (scale * torch.randn(n, classes, h, w, generator=generator, dtype=torch.float64)).to(dtype)
    target = torch.randint(classes, size, generator=generator)
    target[torch.rand(size, generator=generator) < void] = VOID
    target[0, 0, 0] = 0  # at least one labelled pixel
    return logits, target


def noisy(logits: Tensor, passes: int = 5, sd: float = 0.7, seed: int = 1) -> list[Tensor]:
    """Logits of stochastic passes."""
    generator = torch.Generator().manual_seed(seed)
    shape = logits.shape
    noise = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(passes)]
    return [logits + sd * z.to(logits.dtype) for z in noise]


def replay(passes: list[Tensor]) -> Callable[[], Tensor]:
    """A `resample` that returns the given passes in turn."""
    turn = itertools.cycle(passes)
    return lambda: next(turn)


@st.composite
def batches(draw: st.DrawFn, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Batches of all small shapes, from nearly uniform to extreme logits, with no to much void."""
    return batch(
        seed=draw(st.integers(0, 2**31)),
        classes=draw(st.integers(1, 6)),
        size=(draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))),
        dtype=dtype,
        void=draw(st.sampled_from([0.0, 0.3, 0.9])),
        scale=draw(st.sampled_from([0.01, 1.0, 5.0, 100.0])),
    )


def value_and_grad(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf)
    (grad,) = torch.autograd.grad(value, leaf)
    return value.detach(), grad
