"""What `lossbench verify` prints: nothing of whoever made the records commands a terminal or a page."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from lossbench.verification.problems import RULES, Problem
from lossbench.verification.touched import Touched
from lossbench.verification.verify import Report
from lossbench.views.verification import code, render, render_json, render_markdown

HOSTILE = "records/\x1b[2J|`<img src=x>`@maintainer [link](http://x)\n# heading\udcff.json"


def report(*problems: Problem) -> Report:
    return Report(10, 4, 3, 2, list(problems), ["records/a.json"])


def printed(found: Report, width: int = 80, strict: bool = False) -> str:
    out = io.StringIO()
    render(found, "results", Console(file=out, width=width), strict=strict)
    return out.getvalue()


def test_all_rules_are_shown_and_fit_80_columns():
    text = printed(report())
    assert text.startswith("results: 4 records of 10: all in order\n")
    assert all(f"\n{rule} " in text for rule in RULES)
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()
    assert "2 made by code that is known" in text
    assert "1 unchanged since" in text


def test_problems_come_with_file_and_remedy_and_not_without_end():
    many = [Problem("id", f"records/{number}.json", "is wrong") for number in range(100)]
    text = printed(report(*many, Problem("code", "records/x.json", "is not known", True)), width=200)
    assert "100 problems, 1 warning" in text
    assert f"id: {RULES['id'].remedy}." in text
    assert "records/19.json: is wrong" in text
    assert "records/20.json" not in text
    assert "and 80 more" in text
    assert "warning: records/x.json" in text


def test_hostile_names():
    found = report(Problem("file", HOSTILE, HOSTILE))
    text = printed(found, width=500)
    assert "\x1b" not in text
    assert "\n# heading" not in text
    said = json.loads(render_json(found))
    assert said["ok"] is False
    assert "\x1b" not in said["problems"][0]["path"]
    row = Touched(HOSTILE, "ce", (0, 1), 6, 51.234, 0.5, -1.5, "ce", (HOSTILE,))
    page = render_markdown(found, [row])
    assert "| 0, 1 | 6 | 51.23 ± 0.50 | -1.50 |" in page
    for line in page.splitlines():
        if "img" in line:
            # Whatever it says stands within a span of code, and ends no cell.
            outside = "".join(line.split("`")[::2])
            assert "@" not in outside
            assert "<" not in line
            assert line.count("|") in (4, 9)


@pytest.mark.parametrize("text", ["", "`", " ", "``|``", "\\`"])
def test_spans_of_code_are_closed(text):
    assert code(text) == "-" or (code(text)[0] == code(text)[-1] == "`" and "`" not in code(text)[1:-1])


def test_strict_warnings_fail():
    found = report(Problem("code", "records/x.json", "is not known", True))
    assert json.loads(render_json(found))["ok"] is True
    assert json.loads(render_json(found, strict=True))["ok"] is False
    assert render_markdown(found, []).startswith("### In order")
    assert render_markdown(found, [], strict=True).startswith("### Not in order")
