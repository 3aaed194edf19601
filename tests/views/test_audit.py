"""What an audit found, drawn and as JSON."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from lossbench.audit import Check
from lossbench.views.audit import Audited, render, render_json


def check(row="cross-entropy", subject="", off=1.53, **more):
    options = {"rule": "accuracy", "score": "mAcc", "printed": "76.33", "relation": "= mRec", "expected": "77.86"}
    return Check(row=row, subject=subject, off=off, holds=False, **(options | more))


def text_of(*audited, width=80):
    file = io.StringIO()
    render(audited, Console(file=file, width=width))
    return file.getvalue()


def test_it_says_what_must_be_and_by_how_much():
    text = text_of(Audited("a.csv", "table", 4, 28, [check()], []))
    assert text.startswith("a.csv: 4 rows, 28 checks: 1 cannot be\n")
    row = next(line for line in text.splitlines() if line.startswith("cross-entropy"))
    assert row.split() == ["cross-entropy", "mAcc", "76.33", "=", "mRec", "77.86", "1.53"]
    assert "Class accuracy and recall are one formula" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits(width):
    rows = [
        check("streets / fcn_timm(weights=none) / lovasz_softmax / seed 3 (0123456789)", "traffic light"),
        check("x", "car", rule="iou", relation="= 1/(1/P + 1/R - 1)"),
        check("y", rule="readable", printed="-", relation="readable", expected="", hint="long " * 40),
        check("z", "road", off=12345.0, rule="sidecar", printed="12345678", expected="12333333"),
    ]
    text = text_of(Audited("results", "records", 4, 28, rows, ["a note " * 20]), width=width)
    assert max(map(len, text.splitlines())) <= width
    if width >= 80:
        assert " 12345\n" in text


def test_all_possible():
    assert text_of(Audited("a.csv", "table", 1, 7, [], [])) == "a.csv: 1 row, 7 checks: all possible\n"
    two = text_of(*[Audited("a.csv", "table", 1, 7, [], [])] * 2)
    assert two.endswith("2 rows in all: all possible.\n")


def test_many_findings_are_cut_but_not_in_json():
    source = Audited("a.csv", "table", 60, 420, [check(f"row {i}") for i in range(60)], [])
    text = text_of(source)
    assert "and 20 more (--json shows all)" in text
    assert "row 39" in text
    assert "row 40" not in text
    assert len(json.loads(render_json([source]))["sources"][0]["findings"]) == 60


def test_json():
    audited = [
        Audited("a.csv", "table", 4, 28, [check("a", "car"), check("a")], ["n"]),
        Audited("b", "table", 1, 1, [], []),
    ]
    loaded = json.loads(render_json(audited))
    assert {key: loaded[key] for key in ("possible", "rows", "impossible_rows")} == {
        "possible": False, "rows": 5, "impossible_rows": 1,
    }  # fmt: skip
    finding = loaded["sources"][0]["findings"][0]
    assert finding.pop("why").startswith("Class accuracy")
    assert finding == {
        "rule": "accuracy", "row": "a", "class": "car", "score": "mAcc", "printed": "76.33", "relation": "= mRec",
        "expected": "77.86", "off": 1.53, "hint": "",
    }  # fmt: skip
