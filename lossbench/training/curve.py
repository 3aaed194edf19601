"""The learning curve of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

#: Points of a learning curve: at most so many, in a short run at least a tenth of them.
CURVE_POINTS = 200


def log_interval(iterations: int) -> int:
    """Steps from one log point to the next: ten, or what keeps a curve's points within bounds. Scoring the batch at
    every step of a small network would cost some percent."""
    return max(math.ceil(iterations / CURVE_POINTS), min(10, 10 * iterations // CURVE_POINTS), 1)


@dataclass
class Curve:
    """Learning curve: training loss and rate at log points, validation mIoU where it was scored on the way."""

    points: dict[str, list[float]] = field(default_factory=lambda: {"step": [], "loss": [], "lr": []})

    def add(self, **values: float) -> None:
        for key, value in values.items():
            self.points.setdefault(key, []).append(value)
