"""What a loss tells about itself over training: its `diagnostics` and its `diagnose`, kept at log points.

Kept small, for they go into the record: six significant digits, and values per class at few of the log points.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.errors import ConfigError

#: Points of a run at which values per class are kept, at most, and numbers of such a series altogether.
CLASS_POINTS = 20
CLASS_NUMBERS = 400
#: The key of the steps of the values per class; the others are kept at every log point, the curve's `step`.
CLASS_STEPS = "class_steps"


def class_stride(log_points: int, classes: int) -> int:
    """Every how many log points values per class are kept, so that with the last one they are few."""
    most = min(CLASS_POINTS, max(2, CLASS_NUMBERS // classes))
    return max(1, math.ceil(log_points / (most - 1)))


class DiagnosticLog:
    """The diagnostics of a run so far.

    Attributes:
        series: by name, a list with one number a log point, or, for values per class, one list of C numbers at each of
            the steps in `series["class_steps"]`. Plain floats, NaN among them.
    """

    def __init__(self, log_points: int) -> None:
        self.series: dict[str, list[Any]] = {}
        self._log_points = log_points
        self._now: dict[str, Tensor] = {}

    @torch.no_grad()
    def read(self, loss: nn.Module, name: str, logits: Tensor, target: Tensor) -> None:
        """Ask the loss, right after its forward of this batch.

        Raises:
            ConfigError: it answers with anything else than tensors of 0 or 1 dimensions.
        """
        self._now = dict(getattr(loss, "diagnostics", {}))
        diagnose = getattr(loss, "diagnose", None)
        if diagnose is not None:
            with torch.autocast(logits.device.type, enabled=False):
                self._now |= diagnose(logits, target)
        for key, value in self._now.items():
            if not isinstance(value, Tensor) or value.dim() > 1 or key == CLASS_STEPS:
                raise ConfigError(
                    f"loss '{name}': the diagnostic '{key}' is not a tensor of 0 or 1 dimensions",
                    hint="return one number, or one number per class; the name class_steps is taken",
                )

    def keep(self, step: int, index: int, *, last: bool) -> None:
        """Add what was read last as that of log point number `index`, at `step`."""
        classes = max((len(value) for value in self._now.values() if value.dim()), default=0)
        now = bool(classes) and (last or index % class_stride(self._log_points, classes) == 0)
        for name, value in self._now.items():
            if value.dim() == 0:
                self.series.setdefault(name, []).append(rounded(float(value)))
            elif now:
                self.series.setdefault(name, []).append([rounded(x) for x in value.tolist()])
        if now:
            self.series.setdefault(CLASS_STEPS, []).append(step)
        self._now = {}


def rounded(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")
