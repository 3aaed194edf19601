"""A loss under test, and the batches it is fed."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.conformance.report import Broken
from lossbench.registry import Plugin

VOID = 255
_PASSES = 5


@dataclass(frozen=True)
class Batch:
    """What a loss is fed.

    Attributes:
        fed: description for a report.
        logits: (N, C, H, W).
        target: (N, H, W) int64, VOID at ignored pixels.
        passes: logits of stochastic passes (N, C, H, W) each, for losses that take `resample`.
    """

    fed: str
    logits: Tensor
    target: Tensor
    passes: tuple[Tensor, ...]

    @property
    def classes(self) -> int:
        return self.logits.shape[1]

    @property
    def valid(self) -> Tensor:
        return self.target != VOID

    def changed(
        self,
        fed: str,
        *,
        logits: Callable[[Tensor], Tensor] = lambda z: z,
        target: Callable[[Tensor], Tensor] = lambda y: y,
    ) -> Batch:
        """Another batch: `logits` is applied to the logits of every pass alike, `target` to the labels."""
        passes = tuple(logits(z) for z in self.passes)
        return replace(self, fed=fed, logits=logits(self.logits), target=target(self.target), passes=passes)


def random_batch(
    classes: int,
    *,
    fed: str = "",
    size: tuple[int, int, int] = (2, 5, 6),
    dtype: torch.dtype = torch.float32,
    void: bool = True,
    seed: int = 0,
    logits: Tensor | None = None,
) -> Batch:
    """Random logits (or those given) and labels, about a sixth of them void; passes are the logits plus noise."""
    generator = torch.Generator().manual_seed(seed)
    n, h, w = size
    target = torch.randint(classes, size, generator=generator)
    if void:
        target[torch.rand(size, generator=generator) < 1 / 6] = VOID
    drawn = 2 * torch.randn(n, classes, h, w, generator=generator, dtype=torch.float64)
    base = drawn if logits is None else logits.double()
    noise = [torch.randn(base.shape, generator=generator, dtype=torch.float64) for _ in range(_PASSES)]
    fed = fed or f"random {dtype} logits {tuple(base.shape)}, labels with void".replace("torch.", "")
    return Batch(fed, base.to(dtype), target, tuple((base + 0.7 * z).to(dtype) for z in noise))


def long_tail(classes: int) -> list[int]:
    """Pixel counts of a long-tailed dataset."""
    return [100_000 // (rank + 1) ** 2 + 1 for rank in range(classes)]


@dataclass(frozen=True)
class Outcome:
    """What a loss made of a batch: its value (), and its gradient (N, C, H, W) with respect to the logits, summed over
    the ordinary pass and the stochastic ones."""

    value: Tensor
    grad: Tensor


class LossSubject:
    """A loss under test: builds fresh instances and runs them.

    Attributes:
        fed: description of what was fed last; the report's if the loss raises.
    """

    def __init__(self, plugin: Plugin, params: Mapping[str, Any]) -> None:
        self.plugin = plugin
        self.params = dict(params)
        self.fed = "the constructor"

    @cached_property
    def fixed_classes(self) -> int | None:
        """The number of classes its list-valued parameters fix, or None."""
        lengths = [len(value) for value in self.params.values() if _per_class(value)]
        return lengths[0] if lengths else None

    @property
    def classes(self) -> int:
        return self.fixed_classes or 4

    @cached_property
    def exceptions(self) -> dict[str, str]:
        return dict(getattr(self.build(), "conformance_exceptions", {}))

    def reset(self) -> None:
        """Nothing: every rule builds its own."""

    @cached_property
    def takes_resample(self) -> bool:
        loss = self.build()
        # One that declares 0 passes (a sum of losses that need none) has no use for the argument.
        return "resample" in inspect.signature(loss.forward).parameters and getattr(loss, "extra_forwards", 1) != 0

    def build(
        self,
        classes: int | None = None,
        *,
        counts: Sequence[int] | None = None,
        ignore_index: int = VOID,
        order: Sequence[int] | None = None,
    ) -> nn.Module:
        """A fresh loss in training mode. `order` permutes the classes: its counts and list-valued parameters."""
        classes = classes or self.classes
        counts = list(counts or long_tail(classes))
        params = dict(self.params)
        if order is not None:
            counts = [counts[i] for i in order]
            params = {k: [v[i] for i in order] if _per_class(v) else v for k, v in params.items()}
        loss = self.plugin.build(params, num_classes=classes, class_counts=counts, ignore_index=ignore_index)
        if not isinstance(loss, nn.Module):
            raise Broken(f"a {type(loss).__name__}", "an nn.Module")
        return loss.train()

    def call(self, loss: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of `logits` with the target and passes of `batch`, checked to be a scalar."""
        self.fed = batch.fed
        passes = itertools.cycle(batch.passes)
        extra = (lambda: next(passes),) if self.takes_resample else ()
        value = loss(logits, batch.target, *extra)
        if not isinstance(value, Tensor):
            raise Broken(f"a {type(value).__name__}", "a 0-dim tensor")
        if value.ndim != 0:
            raise Broken(f"a tensor of shape {tuple(value.shape)}", "a 0-dim tensor")
        if value.dtype not in (torch.float32, torch.float64):
            raise Broken(f"a {value.dtype} value", "float32 or wider, whatever the dtype of the logits")
        return value

    def runs(self) -> bool:
        """Whether it gives a value and a gradient for random logits at all."""
        try:
            self.run(random_batch(self.classes))
        except (Exception, SystemExit):  # the rules say what it was
            return False
        return True

    def run(self, batch: Batch, loss: nn.Module | None = None) -> Outcome:
        """Value and gradient, of a fresh loss unless one is given. No dependence on the logits is gradient 0."""
        loss = loss or self.build(batch.classes)
        # detach keeps strides (channels_last, slices): the loss sees the layout of the batch.
        leaves = [z.detach().requires_grad_() for z in (batch.logits, *batch.passes)]
        value = self.call(loss, leaves[0], replace(batch, passes=tuple(leaves[1:])))
        grads = torch.autograd.grad(value, leaves, allow_unused=True) if value.requires_grad else ()
        # A loss may let gradients through its passes: what counts is the sum, as all come from one network.
        total = torch.zeros_like(leaves[0])
        for grad in grads:
            total = total if grad is None else total + grad
        return Outcome(value.detach(), total)


def _per_class(value: Any) -> bool:
    """Whether a parameter holds a value per class. (A list of terms does not.)"""
    return isinstance(value, list) and not any(isinstance(item, dict) for item in value)
