"""Losses that disturb whoever checks them: they set global state for good, print, end the process, excuse themselves.

A plugin file as a user would write one; loaded by path.
"""

from __future__ import annotations

import os
import random
import sys
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lossbench.registry import register_loss

#: Each is a fixed value that somebody may set "to be on the safe side".
SETS = {
    "torch's random state": lambda: torch.manual_seed(0),
    "numpy's random state": lambda: np.random.seed(0),  # noqa: NPY002
    "Python's random state": lambda: random.seed(0),
    "gradient mode": lambda: torch.set_grad_enabled(True),
    "default dtype": lambda: torch.set_default_dtype(torch.float32),
    "autocast": lambda: torch.set_autocast_enabled("cpu", False),
    "deterministic mode": lambda: torch.use_deterministic_algorithms(True),
    "threads": lambda: torch.set_num_threads(1),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(False),
    "precision of matrix products": lambda: torch.set_float32_matmul_precision("high"),
    "cuDNN's settings": lambda: setattr(torch.backends.cudnn, "deterministic", True),
    "no gradients": lambda: torch.set_grad_enabled(False),
    "double": lambda: torch.set_default_dtype(torch.float64),
}


class Base(nn.Module):
    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        safe = logits.float() if logits.dtype != torch.float64 else logits
        safe = safe.masked_fill(~valid[:, None], 0.0)
        losses = functional.cross_entropy(safe, target.masked_fill(~valid, 0), reduction="none") * valid
        return losses.sum() / valid.sum().clamp(min=1)


@register_loss("sets_global")
class SetsGlobal(Base):
    """Sets global state when it is built, or when it is called."""

    def __init__(self, *, what: str, when: Literal["built", "called"] = "called", ignore_index: int = 255) -> None:
        super().__init__(ignore_index=ignore_index)
        self.set = SETS[what]
        self.when = when
        if when == "built":
            self.set()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.when == "called":
            self.set()
        return super().forward(logits, target)


@register_loss("well_behaved")
class WellBehaved(Base):
    """Nothing wrong."""


@register_loss("chatty")
class Chatty(Base):
    """Prints, by Python and past it."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        print("a line of the loss")
        if os.environ.get("RUDE_WRITES"):
            os.write(1, b"and another\n")
        return super().forward(logits, target)


@register_loss("leaves")
class Leaves(Base):
    """Ends the process, as a script would."""

    def __init__(self, *, when: Literal["built", "called", "large"], ignore_index: int = 255) -> None:
        super().__init__(ignore_index=ignore_index)
        self.when = when
        if when == "built":
            sys.exit(0)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.when == "called" or logits.shape[-1] > 200:
            sys.exit(0)
        return super().forward(logits, target)


@register_loss("nan_when_wide")
class NanWhenWide(Base):
    """Sound on toys, NaN on images."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits, target) * (float("nan") if logits.shape[-1] > 64 else 1.0)


@register_loss("nan_for_twelve")
class NanForTwelve(Base):
    """Sound for 4 classes, not for the 12 of real logits."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().forward(logits, target) * (float("nan") if logits.shape[1] == 12 else 1.0)


@register_loss("computed_default")
class ComputedDefault(Base):
    """Its default is no literal."""

    def __init__(self, *, gamma: float = 1 / 3, ignore_index: int = 255) -> None:
        super().__init__(ignore_index=ignore_index)
        self.gamma = gamma


@register_loss("plain_tensor")
class PlainTensor(Base):
    """Holds tensors as plain attributes: they stay on the CPU."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__(ignore_index=ignore_index)
        self.register_buffer("moves", torch.ones(3))
        self.part = nn.Module()
        self.part.stays = {"weights": [torch.ones(3)]}  # type: ignore[assignment]


@register_loss("excused")
class Excused(Base):
    """Declares an exception."""

    def __init__(self, *, rule: str, reason: str, ignore_index: int = 255) -> None:
        super().__init__(ignore_index=ignore_index)
        self.conformance_exceptions = {rule: reason}
