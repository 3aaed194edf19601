"""Interval bars in the cells of a table, all of a table on one axis. The numbers stand beside them as text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from lossbench.statistics import Paired

WIDTH, HEIGHT = 180, 18
_EDGE = 9
#: Rows whose interval reaches further below than so many times the median one are cut off, with an arrow: a loss that
#: failed. One that is far ahead is what a reader came for, and never cut.
_FAR = 6.0


@dataclass(frozen=True)
class Axis:
    """From `low` <= 0 to `high` >= 0, in points."""

    low: float
    high: float

    @classmethod
    def of(cls, pairs: Iterable[Paired | None]) -> Axis:
        """Wide enough for all but those so far below that they would flatten the rest."""
        ends = [pair.interval or (pair.mean, pair.mean) for pair in pairs if pair is not None]
        reach = sorted(max(abs(low), abs(high)) for low, high in ends)
        limit = _FAR * reach[len(reach) // 2] if reach else 1.0
        low = min([0.0, *(max(low, -limit) for low, high in ends if high > -limit)])
        high = max([0.0, *(high for _, high in ends)])
        step = _nice((high - low) / 2 or 1.0)
        return cls(step * math.floor(low / step - 1e-9), step * math.ceil(high / step + 1e-9))

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_EDGE + share * (WIDTH - 2 * _EDGE), 1)

    def ticks(self) -> list[float]:
        """Both ends and 0."""
        return sorted({self.low, 0.0, self.high})


def _nice(value: float) -> float:
    """1, 2 or 5 times a power of ten, at most `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(power * factor for factor in (1.0, 2.0, 5.0) if power * factor <= value * 1.0000001)


def interval(pair: Paired | None, axis: Axis, verdict: str) -> Markup:
    """The bar of one row; only the axis where there is no difference (the reference itself)."""
    middle, zero = HEIGHT / 2, axis.x(0.0)
    parts = [f'<path class="zero" d="M{zero} 0V{HEIGHT}"/>']
    if pair is not None:
        low, high = pair.interval or (pair.mean, pair.mean)
        ends = [min(max(end, axis.low), axis.high) for end in (low, high)]
        if ends[1] > ends[0]:
            parts.append(f'<path class="ci" d="M{axis.x(ends[0])} {middle}H{axis.x(ends[1])}"/>')
        if axis.low <= pair.mean <= axis.high:
            parts.append(f'<circle cx="{axis.x(pair.mean)}" cy="{middle}" r="3.4"/>')
        else:
            tip = 2 if pair.mean < axis.low else WIDTH - 2
            base = tip + (7 if pair.mean < axis.low else -7)
            parts.append(f'<path class="arrow" d="M{tip} {middle}L{base} {middle - 4.5}V{middle + 4.5}Z"/>')
    return _svg(f"iv {verdict}", parts)


def axis_labels(axis: Axis) -> Markup:
    """The axis for the head of the column."""
    parts = []
    for tick in axis.ticks():
        text = f"{tick:+g}".replace("-", "−") if tick else "0"
        parts.append(f'<text x="{axis.x(tick)}" y="13" text-anchor="middle">{text}</text>')
    return _svg("iv axis", parts)


def _svg(classes: str, parts: list[str]) -> Markup:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return Markup(f'<svg class="{classes}" {size} aria-hidden="true" focusable="false">{"".join(parts)}</svg>')
