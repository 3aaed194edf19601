"""Docstrings for readers of a page: their small marks (`code`, x^2, Greek letters) set as type."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "omega": "ω", "sigma": "σ", "eps": "ε", "phi": "φ", "tau": "τ", "pi": "π",
    "Delta": "Δ",
}  # fmt: skip
_CODE = re.compile(r"``?([^`]+)``?")
_EMPHASIS = re.compile(r"(?<![\w*])\*(\w+)\*(?![\w*])")
_POWER = re.compile(r"\^(?:\{([^{}]*)\}|\(([^()]*)\)|(\w+))")
_LETTER = re.compile(rf"\b({'|'.join(_GREEK)})(?=_|\b)")
_BELOW = re.compile(r"(?<![A-Za-z0-9_])([a-zA-ZΔα-ω]|[A-Z]{2})_([a-zA-Z0-9]{1,2})(?![A-Za-z0-9_])")


def typeset(text: str) -> Markup:
    """Plain text of a docstring as HTML: `x` as code, u^gamma and p_y as powers and indices, alpha as α, *word* as
    emphasis."""
    parts = _CODE.split(text)
    made = [f"<code>{escape(part)}</code>" if place % 2 else _maths(part) for place, part in enumerate(parts)]
    return Markup("").join(Markup(part) for part in made)


def _maths(text: str) -> str:
    shown = _LETTER.sub(lambda match: _GREEK[match[1]], str(escape(text)))
    shown = re.sub(r"\bsum_(?:(\w)\b|\{([^{}]*)\})", lambda match: f"∑<sub>{match[1] or match[2]}</sub> ", shown)
    shown = _EMPHASIS.sub(r"<em>\1</em>", shown)
    shown = _POWER.sub(lambda match: f"<sup>{match[1] or match[2] or match[3]}</sup>", shown)
    shown = _BELOW.sub(r"<i>\1</i><sub>\2</sub>", shown)
    shown = re.sub(r"\|_(\d)\b", r"|<sub>\1</sub>", shown)
    return re.sub(r"(?<=[\s(\[])-(?=[\w<(])", "−", shown)
