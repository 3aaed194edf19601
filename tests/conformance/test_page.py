"""docs/conformance.md lists the rules as their docstrings state them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.conformance import rules
from lossbench.registry import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_a_kind_is_what_its_rules_say(kind: str) -> None:
    section = next(part for part in PAGE.split("\n## ") if part.startswith(f"Rules about {kind}"))
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {' '.join((rule.__doc__ or '').split())} |" for name, rule in rules(kind).items()]
