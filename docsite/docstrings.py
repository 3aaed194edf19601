"""Docstrings of this project as mkdocstrings sets them: an extension of griffe.

They are Google's style, but for paragraphs that begin with a label on their own line (`Source: ...`, `Trap: ...`,
`Shapes: ...`), one-line `Args`-like sections, and plain notation (`-log p_y < 1`), which is no Markdown.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_LABEL = re.compile(r"^(Source|Shapes|Traps?|Helps when|Example|Examples)(:| )\s*(?=\S)", re.MULTILINE)
_NOT_HTML = re.compile(r"<(?=[\w/!])")


class Docstrings(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """A docstring in which labels are bold paragraphs of their own and `<` is text, but not in indented code."""
    lines: list[str] = []
    code = False
    for line in text.split("\n"):
        indented = line.startswith("    ")
        if line.strip():
            # Items of `Args:` follow it at once; code follows a blank line.
            code = indented and (code or (len(lines) > 1 and not lines[-1].strip() and not _indented(lines)))
        found = None if indented else _LABEL.match(line)
        if found:
            if lines and lines[-1].strip():
                lines.append("")
            line = f"**{found[1]}{found[2].strip()}** " + line[found.end() :]
        lines.append(line if code else _escaped(line))
    return "\n".join(lines)


def _indented(lines: list[str]) -> bool:
    """Whether the last line that is not blank is indented."""
    return next((line for line in reversed(lines) if line.strip()), "").startswith("    ")


def _escaped(line: str) -> str:
    """`<` outside of code is no tag; `*` between numbers no emphasis."""
    parts = re.split(r"(`+[^`]*`+)", line)
    return "".join(part if place % 2 else _NOT_HTML.sub("&lt;", part) for place, part in enumerate(parts))
