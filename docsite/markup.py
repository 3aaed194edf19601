"""Small pieces of HTML and Markdown that the generated pages share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_CODE = re.compile(r"``?([^`]+)``?")


def code(text: str) -> str:
    return f"<code>{escape(text, quote=False)}</code>"


def inline(text: str) -> str:
    """Plain text with `code` in it, as HTML."""
    parts = _CODE.split(text)
    return "".join(code(part) if place % 2 else escape(part, quote=False) for place, part in enumerate(parts))


def sentence(text: str) -> str:
    """With a capital and a full stop, as the first words of a cell of a table."""
    text = text.strip()
    if not text:
        return ""
    start = text.split()[0]
    word = start.rstrip(",:;")
    # Names stay: torch.compile, eval_split, nnU-Net, <code>...
    name = not word.isalpha() and not (word.islower() and word.replace("-", "").isalpha())
    first = text if name else text[0].upper() + text[1:]
    return first if first.endswith((".", "?", "!")) else first + "."


def table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str) -> str:
    """An HTML table of cells that are HTML; without blank lines, so that Markdown leaves it alone."""
    lines = [f'<div class="lb-scroll" tabindex="0"><table class="lb-{kind}">', "<thead><tr>"]
    lines += [f'<th scope="col">{cell}</th>' for cell in head]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines) + "\n"
