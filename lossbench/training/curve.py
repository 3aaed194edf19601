"""The learning curve of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

#: Points of a learning curve, at most.
CURVE_POINTS = 200


def log_interval(iterations: int) -> int:
    """Steps from one log point to the next."""
    return max(1, math.ceil(iterations / CURVE_POINTS))


@dataclass
class Curve:
    """Learning curve: training loss and rate at log points, validation mIoU where it was scored on the way."""

    points: dict[str, list[float]] = field(default_factory=lambda: {"step": [], "loss": [], "lr": []})

    def add(self, **values: float) -> None:
        for key, value in values.items():
            self.points.setdefault(key, []).append(value)
