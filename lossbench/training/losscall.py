"""Calling a loss in training, and telling its mistakes from a run that diverges."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lossbench.cells import canonical_json
from lossbench.errors import ConfigError
from lossbench.training.ranks import ALONE, Ranks

Resample = Callable[[], Tensor]
#: Losses must be finite for logits up to this size (conformance rule scalar_finite); beyond it a run has diverged.
LARGEST_LOGIT = 1e4


def takes_resample(loss: nn.Module) -> bool:
    """Whether the loss asks for Monte-Carlo passes: its forward has a parameter called `resample`, and it does not
    declare `extra_forwards = 0`."""
    return "resample" in inspect.signature(loss.forward).parameters and getattr(loss, "extra_forwards", 1) != 0


def extra_forwards(loss: nn.Module) -> int:
    """Head passes a loss runs beyond the ordinary one, per micro-batch."""
    return int(getattr(loss, "extra_forwards", 0))


def random_key(loss: nn.Module, key: str) -> str:
    """The root of a run's sample order, crops, flips and dropout masks: the fairness key, so that competitors share
    them, unless the loss is a control that shifts the random stream (`random_shift`)."""
    shift = getattr(loss, "random_shift", ())
    return canonical_json([key, *shift]) if shift else key


def micro_batch_shares(target: Tensor, parts: int, ignore_index: int, ranks: Ranks = ALONE) -> list[float]:
    """The weight of each of the `parts` a rank's targets are split into: its share of the labelled pixels of the whole
    batch, so that for per-pixel losses the accumulated step equals the step of the whole batch. Reads the targets: give
    it those of the host."""
    if parts * ranks.world == 1:
        return [1.0]
    labelled = [int((part != ignore_index).sum()) for part in target.chunk(parts)]
    everything = ranks.total(sum(labelled))
    return [n / everything if everything else 1 / (parts * ranks.world) for n in labelled]


def call_loss(loss: nn.Module, name: str, logits: Tensor, target: Tensor, resample: Resample | None) -> Tensor:
    """The scalar loss of a batch, with autocast off. Raises ConfigError when it is not a floating scalar."""
    with torch.autocast(logits.device.type, enabled=False):
        value = loss(logits, target, resample) if resample is not None else loss(logits, target)
    if not isinstance(value, Tensor) or value.dim() != 0 or not value.is_floating_point():
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ConfigError(
            f"loss '{name}' returned {got}, expected a floating-point scalar",
            hint="reduce it to one number, e.g. the mean over the pixels that are not ignored",
        )
    if not value.requires_grad:
        raise ConfigError(
            f"loss '{name}' returned a value without gradient",
            hint="compute it from the logits with differentiable torch operations",
        )
    return value


def blame(name: str, value: float, largest_logit: float, step: int) -> str:
    """A non-finite loss: the words for a run that diverged, or ConfigError when the logits were sane, so that the
    loss itself is broken."""
    if largest_logit <= LARGEST_LOGIT:
        raise ConfigError(
            f"loss '{name}' returned {value} at step {step} for finite logits (largest {largest_logit:.3g})",
            hint="guard log(0), 0/0 and infinite slopes; a batch may hold absent classes or ignored pixels only",
        )
    return f"diverged at step {step}: loss {value}, largest logit {largest_logit:.3g}"
