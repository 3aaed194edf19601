"""Templates to HTML: one environment, everything escaped, numbers set alike on all pages."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.errors import SetupError

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

FOLDER = Path(__file__).parent
MISSING = "–"
#: Characters of a word that the first column of a table holds in one line, on a phone, too.
_WORD = 16
#: Controls of the bidirectional algorithm (Unicode UAX #9): embeddings, overrides, isolates, and invisible marks.
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def require() -> None:
    """Raises SetupError with the line that installs what is missing."""
    try:
        import jinja2  # noqa: F401
        import plotly.offline  # noqa: F401
    except ImportError as error:
        raise SetupError(
            f"a report needs {error.name or 'Jinja2 and Plotly'}, which is not installed",
            hint="pip install 'lossbench[report]'",
        ) from None


@cache
def environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_plain_direction,
    )
    # As it is, so that `finalize` sees every character.
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "ensure_ascii": False}
    from lossbench.site.docstring import typeset
    from lossbench.site.runview import plain
    from lossbench.site.tables import shade_of

    made.filters |= {
        "num": num, "signed": signed, "share": share, "ms": milliseconds, "typeset": typeset, "plain": plain,
        "seeds": seeds, "pvalue": pvalue, "thousands": thousands, "abridged": abridged, "breakable": breakable,
        "count": count,
    }  # fmt: skip
    made.globals |= {"shade_of": shade_of}
    return made


def page(template: str, depth: int = 0, **values: Any) -> str:
    """A page `depth` folders below the root of the report."""
    return environment().get_template(template).render(root="../" * depth, **values)


def _plain_direction(value: Any) -> Any:
    """Text without marks that turn the direction of what follows, which would let a label rewrite its page."""
    if not isinstance(value, str) or value.isascii():
        return value
    return type(value)(_TURNING.sub("\N{REPLACEMENT CHARACTER}", value))  # markup stays markup


def abridged(label: str, most: int = 90) -> str:
    """A label of a table: its beginning and end, where it is very long."""
    return label if len(label) <= most else f"{label[: most - 30]} … {label[-27:]}"


def breakable(text: str) -> Markup:
    """Markup that lines may break within long words only, and there after `_` and `=` first."""
    from markupsafe import Markup, escape

    def within(word: str) -> str:
        safe = str(escape(word))
        return re.sub("(?<=[_=])(?=.)", "<wbr>", safe) if len(word) > _WORD else safe

    return Markup(" ".join(map(within, text.split(" "))))


def count(number: int, noun: str) -> str:
    """`1 run`, `2,000 runs`, `3 losses`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def num(value: float | None, digits: int = 2) -> str:
    """Fixed digits and a true minus sign."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text.lstrip("+−")  # no sign where all digits are 0


def share(percent: float) -> str:
    """Two figures: 32, 4.1, 0.60, 0.035."""
    if not math.isfinite(percent):
        return MISSING
    if percent >= 9.95:
        return f"{percent:.0f}"
    return f"{percent:.1f}" if percent >= 0.995 else f"{percent:.2f}" if percent >= 0.0995 else f"{percent:.2g}"


def milliseconds(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"


def pvalue(p: float) -> str:
    if not math.isfinite(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def thousands(value: int) -> str:
    return f"{value:,}"


def seeds(numbers: list[int], most: int = 12) -> str:
    """Seeds as runs of neighbours, each once: 0 to 5, 8, 11."""
    parts: list[str] = []
    start = last = None
    for number in [*sorted(set(numbers)), None]:
        if start is None:
            start = last = number
        elif last is not None and number == last + 1:
            last = number
        else:
            parts.append(
                f"{start}" if start == last else f"{start} to {last}" if last != start + 1 else f"{start}, {last}"
            )
            start = last = number
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")
