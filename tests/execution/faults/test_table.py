"""The table of docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "reliability.md"


def rows() -> list[list[str]]:
    """Cells of the table of faults, without its two heading lines."""
    section = PAGE.read_text().partition("## Faults")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def short_names() -> dict[str, str]:
    """What a letter stands for: "`S` is tests/...," in the line above the table."""
    return dict(re.findall(r"`([A-Z])` (?:is |the folder )?(tests/[\w/.]+\w)", PAGE.read_text()))


@cache
def functions_of(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_the_table_is_read() -> None:
    assert len(rows()) > 15
    assert short_names().keys() == {"S", "E", "F"}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_fault_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 4
    assert all(row)
    named = re.findall(r"`([^`]+)`", row[3])
    assert named
    for name in named:
        place, _, test = name.partition("::")
        first, slash, rest = place.partition("/")
        file = ROOT / (short_names().get(first, first) + slash + rest)
        assert test in functions_of(file), name
        assert test.startswith("test_")
