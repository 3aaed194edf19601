"""Whether a printable name is one that `Component.label` could have made of a name and its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lossbench.cells import short_text
from lossbench.terms import RESERVED, is_terms

_KEY = re.compile(r"(\w+)=")
#: What stands for a file: its name in the label, the hash of its contents (or null) in the identity.
_FILE_NAME = re.compile(r"[^,()]*")


def label_fits(label: str, name: str, params: Mapping[str, Any]) -> bool:
    """Whether `label` names this plugin with some of these parameters, in any order, each with its own value."""
    if label == params.get("title"):
        return True
    return _after(label, 0, name, params) == len(label)


def _after(text: str, at: int, name: str, params: Mapping[str, Any]) -> int:
    """Where the label that starts at `at` ends; -1 when none does."""
    if not text.startswith(name, at):
        return -1
    at += len(name)
    if not text.startswith("(", at):
        return at
    at += 1
    sums = [value for value in params.values() if is_terms(value)]
    while True:
        match = _KEY.match(text, at)
        if match is None:  # a sum is shown without the name of its parameter
            at = max((_after_terms(text, at, value) for value in sums), default=-1)
        else:
            at = _after_value(text, match.end(), params[match[1]]) if match[1] in params else -1
        if at < 0:
            return -1
        if text.startswith(")", at):
            return at + 1
        if not text.startswith(", ", at):
            return -1
        at += 2


def _after_value(text: str, at: int, value: Any) -> int:
    if value is None or (isinstance(value, str) and value.startswith("sha256:")):
        match = _FILE_NAME.match(text, at)
        return match.end() if match else -1
    shown = short_text(value)
    return at + len(shown) if text.startswith(shown, at) else -1


def _after_terms(text: str, at: int, terms: list[dict[str, Any]]) -> int:
    """Of a sum: `0.8 ce + 0.2 focal(gamma=5)`; -1 when it is not this one."""
    for number, term in enumerate(terms):
        weight = term["weight"]
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            return -1
        lead = (" + " if number else "") + f"{short_text(float(weight))} "
        if not text.startswith(lead, at):
            return -1
        own = {key: value for key, value in term.items() if key not in RESERVED}
        at = _after(text, at + len(lead), str(term["name"]), own)
        if at < 0:
            return -1
    return at
