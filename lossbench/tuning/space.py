"""The space of a search: dimensions with a unit scale, and settings in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Scalar = bool | int | float | str
#: A value for each dimension of a space, by name.
Setting = Mapping[str, Scalar]
#: Significant digits of a value drawn from a range: what a table prints is what was run.
DIGITS = 4


@dataclass(frozen=True)
class Dimension:
    """A range [low, high], or a list of values.

    Attributes:
        log: draw uniformly in the logarithm.
        whole: whole numbers only.
        values: empty for a range.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    values: tuple[Scalar, ...] = ()

    @property
    def size(self) -> float:
        """How many values there are; infinite for a range of real numbers."""
        if self.values:
            return len(self.values)
        return self.high - self.low + 1 if self.whole else math.inf

    def at(self, unit: float) -> Scalar:
        """The value at a place of the unit scale [0, 1)."""
        if self.values:
            return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]
        if self.whole:
            return min(int(self._within(unit, self.low, self.high + 1)), int(self.high))
        rounded = float(f"{self._within(unit, self.low, self.high):.{DIGITS}g}")
        return min(max(rounded, self.low), self.high)

    def _within(self, unit: float, low: float, high: float) -> float:
        return low * (high / low) ** unit if self.log else low + (high - low) * unit

    def place(self, value: Scalar) -> float | None:
        """Where a value lies between the ends, 0..1; beyond them, the nearest end. None for one that has no place: not
        in the list, or a list without order."""
        if self.values:
            if value not in self.values or not self.ordered:
                return None
            return sorted(self.values).index(value) / max(1, len(self.values) - 1)
        number = min(max(float(value), self.low), self.high)
        if self.high == self.low:
            return 0.0
        if self.log:
            return math.log(number / self.low) / math.log(self.high / self.low)
        return (number - self.low) / (self.high - self.low)

    @property
    def ordered(self) -> bool:
        """Whether its values are numbers."""
        return all(type(value) in (int, float) for value in self.values)

    def distance(self, one: Scalar, other: Scalar) -> float:
        """0..1 on the unit scale; of values without a place, 0 when equal and else 1."""
        if one == other:
            return 0.0
        places = self.place(one), self.place(other)
        return 1.0 if places[0] is None or places[1] is None else abs(places[0] - places[1])

    def edge(self, value: Scalar, trials: int) -> str | None:
        """`lower` or `upper` when a value is first or last of an ordered list of 3 or more, or lies in the outermost
        1/trials of a range (as far as trials lie apart; a fifth at most) or beyond it: better may lie outside."""
        place = self.place(value)
        if place is None or (self.values and len(self.values) < 3):
            return None
        margin = 0.0 if self.values else min(1 / trials, 0.2)
        return "lower" if place <= margin else "upper" if place >= 1 - margin else None

    def to_json(self) -> Any:
        if self.values:
            return list(self.values)
        return {"low": self.low, "high": self.high, "log": self.log, **({"whole": True} if self.whole else {})}

    @classmethod
    def from_json(cls, name: str, data: Any) -> Dimension:
        return cls(name, values=tuple(data)) if isinstance(data, list) else cls(name, **data)

    def __str__(self) -> str:
        if self.values:
            return f"{self.name} in {{{', '.join(text(value) for value in self.values)}}}"
        return f"{self.name} {self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


def text(value: Scalar) -> str:
    """A value as tables print it."""
    return f"{value:g}" if type(value) is float else str(value)


def shown(setting: Setting) -> str:
    """`lr=0.0012, gamma=2`."""
    return ", ".join(f"{name}={text(value)}" for name, value in setting.items())


def distance(space: Sequence[Dimension], one: Setting, other: Setting) -> float:
    """The sum over the dimensions of the distances on their unit scales."""
    return sum(dimension.distance(one[dimension.name], other[dimension.name]) for dimension in space)


def same(one: Setting, other: Setting) -> bool:
    return all(one[name] == other[name] for name in one)
