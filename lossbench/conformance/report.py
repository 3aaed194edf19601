"""What a rule reports, and the comparisons rules are made of, whatever kind of plugin they are about."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lossbench.errors import did_you_mean
from lossbench.registry import Plugin


@dataclass(frozen=True)
class Result:
    """The verdict of one rule.

    Attributes:
        rule: its name.
        ok: passed, or skipped with a reason.
        fed, got, expected: of the check that failed; for a passed rule all that was fed, and the last check.
        skipped_reason: why the rule does not apply, or None.
    """

    rule: str
    ok: bool
    fed: str
    got: str
    expected: str
    skipped_reason: str | None = None

    def __str__(self) -> str:
        if self.skipped_reason is not None:
            return f"skip {self.rule}: {self.skipped_reason}"
        if self.ok:
            return f"ok   {self.rule}"
        return f"FAIL {self.rule}\n  fed:      {self.fed}\n  got:      {self.got}\n  expected: {self.expected}"


@dataclass(frozen=True)
class Check:
    """One comparison within a rule."""

    fed: str
    got: str
    expected: str
    ok: bool


class Skip(Exception):
    """The rule does not apply; the text says why."""


class Broken(Exception):
    """The plugin returned something no rule can go on with."""

    def __init__(self, got: str, expected: str) -> None:
        super().__init__(got)
        self.got = got
        self.expected = expected


class Subject(Protocol):
    """A plugin under test.

    Attributes:
        plugin: it.
        fed: description of what was fed last; the report's if the plugin raises.
    """

    plugin: Plugin
    fed: str

    @property
    def exceptions(self) -> Mapping[str, str]:
        """Rules it declares not to apply to it, each with its reason. May raise whatever a constructor raises."""

    def reset(self) -> None:
        """Undo what a rule has left behind."""


#: Takes the subject of its kind. Its docstring says what it requires.
Rule = Callable[[Any], Iterator[Check]]


def close(fed: str, what: str, got: Tensor, expected: Tensor, rtol: float) -> Check:
    """max |got - expected| <= rtol max |expected|."""
    got, expected = got.double(), expected.double()
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    error = float((got - expected).abs().max()) if expected.numel() else 0.0
    if got.ndim == 0:
        found, said = f"{what} {number(got)}", f"{what} {number(expected)}, to within {rtol:g}"
    else:
        found, said = f"{what} off by {error / (scale or 1):.2g}", f"{what} off by <= {rtol:g} of its maximum"
    return Check(fed, found, said, error <= rtol * scale)


def same(fed: str, what: str, got: Tensor, expected: Tensor) -> Check:
    """Equal in every bit (0 = -0)."""
    equal = torch.equal(got, expected)
    if got.ndim == 0:
        return Check(fed, f"{what} {got.item()!r}", f"{what} {expected.item()!r}, in every bit", equal)
    different = int((got != expected).sum()) if got.shape == expected.shape else got.numel()
    found = f"the same {what}" if equal else f"{what} differs at {different} of {got.numel()} elements"
    return Check(fed, found, f"the same {what} in every bit", equal)


def number(value: Tensor) -> str:
    return f"{value.item():.8g}"


def sort_exceptions(
    declared: Mapping[str, str], known: Iterable[str], never: Collection[str]
) -> tuple[dict[str, str], list[Check]]:
    """(the declared exceptions that hold, a failed check for each that does not): one to no rule, to a rule in `never`,
    or without a reason."""
    granted, refused = {}, []
    names = list(known)
    for rule, reason in declared.items():
        said, expected = f"{rule!r}: {reason!r}", ""
        if rule not in names:
            expected = did_you_mean(str(rule), names) or f"a rule: {', '.join(names)}"
        elif rule in never:
            expected = "no exception to this rule"
        elif not (isinstance(reason, str) and reason.strip()):
            expected = "a reason, as text"
        if expected:
            refused.append(Check("conformance_exceptions", said, expected, False))
        else:
            granted[rule] = reason
    return granted, refused


def one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"
