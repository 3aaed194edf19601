"""Docstrings of plugins in parts, read from the syntax tree: nothing is imported."""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass, field

from lossbench.errors import LossbenchError
from lossbench.plugin import Plugin, syntax_tree

_SECTION = re.compile(r"(Args|Shapes|Attributes|Raises|Returns|Source|Traps?):\s*(.*)", re.DOTALL)
_ITEM = re.compile(r"(\w+(?:, \w+)*):\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Docstring:
    """A docstring in parts: first sentence or line, what follows, where it is from, and what each parameter does."""

    summary: str = ""
    body: list[str] = field(default_factory=list)
    source: str = ""
    params: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> Docstring:
    """Of a plugin's docstring (see CONTRIBUTING). Unknown sections are ordinary text."""
    summary, *rest = [part.strip("\n") for part in re.split(r"\n\s*\n", text.strip())] or [""]
    body, source, params = [], "", {}
    for part in rest:
        for piece in re.split(r"\n(?=Traps?:|Trap:)", part):
            found = _SECTION.match(piece)
            if found is None:
                body.append(_joined(piece))
            elif found[1] == "Args":
                params = _items(piece.partition("\n")[2])
            elif found[1] == "Source":
                source = _joined(found[2])
            elif found[1] in ("Trap", "Traps"):
                body.append(_joined(piece))
    return Docstring(_joined(summary), body, source, params)


def _items(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in re.split(r"\n(?=\S)", textwrap.dedent(text)):
        match = _ITEM.match(item)
        if match:
            found |= dict.fromkeys(match[1].split(", "), _joined(match[2]))
    return found


def _joined(text: str) -> str:
    return " ".join(text.split())


def read(plugin: Plugin) -> Docstring:
    """The docstring of a plugin, from its syntax tree: nothing is imported."""
    node = _node(plugin)
    return parse(ast.get_docstring(node) or "") if node is not None else Docstring()


def declared_exceptions(plugin: Plugin) -> dict[str, str]:
    """Rules of conformance that a loss says do not apply, with its reasons, as far as they are literal."""
    node = _node(plugin)
    for statement in node.body if node is not None else ():
        if isinstance(statement, ast.AnnAssign) and getattr(statement.target, "id", "") == "conformance_exceptions":
            try:
                value = ast.literal_eval(statement.value) if statement.value is not None else {}
            except ValueError:
                return {}
            return {str(rule): str(reason) for rule, reason in dict(value).items()}
    return {}


def _node(plugin: Plugin) -> ast.ClassDef | ast.FunctionDef | None:
    try:
        tree = syntax_tree(plugin.file)
    except (OSError, SyntaxError, ValueError, LossbenchError):
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == plugin.attribute:
            return node
    return None
