"""File names from names in records, and the look that a loss has on every page."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lossbench.cells import short_hash

#: Colours and shapes there are in static/site.css and static/figures.js.
COLORS = SHAPES = 8


@dataclass
class Slugs:
    """Harmless file names, one for each text: `[a-z0-9-]`, so that no separator, no `..` and no markup survives."""

    _of: dict[str, str] = field(default_factory=dict)

    def of(self, text: str) -> str:
        if text not in self._of:
            slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80].strip("-") or "unnamed"
            if slug in self._of.values():
                slug += "-" + short_hash(text)[:8]
            self._of[text] = slug
        return self._of[text]


@dataclass(frozen=True)
class Look:
    """Colour, shape and line of one loss. The second round through the colours has hollow shapes and dashed lines."""

    color: int
    shape: int
    turn: int

    @classmethod
    def of(cls, place: int) -> Look:
        """The look of the loss at that place of the site's order."""
        turn, color = divmod(place, COLORS)
        return cls(color, (color + 3 * turn) % SHAPES, turn % 4)
