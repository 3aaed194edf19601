"""Formulas: a small part of LaTeX as MathML, which browsers set by themselves, without a script or a font of ours.

    mathml(r"L = \\frac{1}{N} \\sum_i -\\log p_y")

Known are letters, digits, operators, `_` and `^` (with braces), `\\frac{}{}`, `\\sqrt{}`, `\\text{}`, `\\hat{}`, the
names in `_WORDS`, `\\sum`, and brackets. It is for formulas of ours; anything else raises ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

_WORDS: Mapping[str, str] = {
    "alpha": "α", "beta": "β", "gamma": "γ", "Delta": "Δ", "sigma": "σ", "omega": "ω", "varepsilon": "ε",
    "pi": "π", "tau": "τ", "lambda": "λ", "delta": "δ", "phi": "φ", "Sigma": "Σ",
}  # fmt: skip
_OPERATORS: Mapping[str, str] = {
    "sum": "∑", "cdot": "⋅", "le": "≤", "ge": "≥", "ne": "≠", "in": "∈", "cap": "∩", "cup": "∪", "ldots": "…",
    "times": "×", "langle": "⟨", "rangle": "⟩",
}  # fmt: skip
_FUNCTIONS = ("log", "max", "min", "det")
_TOKEN = re.compile(r"\s*(\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|[a-zA-Z]|[{}_^]|[^\s])")


def mathml(source: str) -> Markup:
    """A block formula. Raises ValueError for what it does not know."""
    reader = _Reader([match.group(1) for match in _TOKEN.finditer(source)])
    body = reader.row(until=None)
    note = escape(source)
    return Markup(f'<math display="block" aria-label="{note}"><mrow>{body}</mrow></math>')


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0

    def _next(self) -> str:
        if self.at >= len(self.tokens):
            raise ValueError("the formula ends too soon")
        self.at += 1
        return self.tokens[self.at - 1]

    def _peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def row(self, until: str | None) -> str:
        """Items up to a closing brace, or to the end."""
        items = []
        while self._peek() != until:
            if self._peek() is None:
                raise ValueError("a brace is not closed")
            items.append(self._scripted())
        if until is not None:
            self._next()
        return "".join(items)

    def _scripted(self) -> str:
        """An item with what is below and above it."""
        base, scripts = self._item(), {}
        while self._peek() in ("_", "^"):
            mark = self._next()
            scripts[mark] = self._item()
        under = base.startswith("<mo largeop")
        match sorted(scripts):
            case ["^", "_"]:
                tag = "munderover" if under else "msubsup"
                return f"<{tag}>{base}{scripts['_']}{scripts['^']}</{tag}>"
            case ["_"]:
                tag = "munder" if under else "msub"
                return f"<{tag}>{base}{scripts['_']}</{tag}>"
            case ["^"]:
                return f"<msup>{base}{scripts['^']}</msup>"
        return base

    def _item(self) -> str:
        token = self._next()
        if token == "{":
            return f"<mrow>{self.row('}')}</mrow>"
        if token.startswith("\\"):
            return self._command(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{token}</mi>"
        if token in "}_^":
            raise ValueError(f"'{token}' out of place")
        return f"<mo>{escape('−' if token == '-' else token)}</mo>"

    def _command(self, name: str) -> str:
        if name in _WORDS:
            return f"<mi>{_WORDS[name]}</mi>"
        if name == "sum":
            return '<mo largeop="true" movablelimits="false">∑</mo>'
        if name in _OPERATORS:
            return f"<mo>{_OPERATORS[name]}</mo>"
        if name in _FUNCTIONS:
            return f'<mi>{name}</mi><mspace width="0.17em"></mspace>'
        if name == "frac":
            return f"<mfrac>{self._item()}{self._item()}</mfrac>"
        if name == "sqrt":
            return f"<msqrt>{self._item()}</msqrt>"
        if name == "hat":
            return f'<mover accent="true">{self._item()}<mo>^</mo></mover>'
        if name == "text":
            return f"<mtext>{escape(self._text())}</mtext>"
        if name in (",", ";"):
            return '<mspace width="0.3em"></mspace>'
        raise ValueError(f"unknown: \\{name}")

    def _text(self) -> str:
        """Words in braces; the tokens have lost their spaces: `~` stands for one."""
        if self._next() != "{":
            raise ValueError("\\text needs braces")
        words = []
        while (token := self._next()) != "}":
            words.append("\N{NO-BREAK SPACE}" if token == "~" else token)
        return "".join(words)
