"""Verdicts and cards as they are printed."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from lossbench.conformance.losses.card import LossCard, Precision, Standing
from lossbench.conformance.losses.cost import Cost
from lossbench.conformance.report import Result
from lossbench.views.checks import render_card, render_results

COST = Cost("Pascal Context, 59 classes", (4, 59, 480, 480), 10411.52, 251.7, 41.36, 40.1, 42.9, 2.0, 4.0, 3, 5)
CARD = LossCard(
    standing=[Standing("an untrained network", 2.5, 2.6, 0.1234, 0.024, 0.025)],
    precision=[Precision("bfloat16", 0.0, 3e-3), Precision("float16", None, None, "RuntimeError: not implemented")],
    absent={"perfect": 0.25, "gradient": 0.5},
    facts=["class_counts", "ignore_index"],
    passes=5,
    resample_with_grad=True,
    state=["steps"],
    exceptions={"compaction": "distances between pixels"},
    note="",
    costs=[COST],
)


def printed(what: object, function: object, width: int = 80, **options: object) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    function(what, console, **options)  # type: ignore[operator]
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= width
    return text.splitlines()


def test_a_card() -> None:
    text = " ".join("\n".join(printed(CARD, render_card)).split())
    assert "an untrained network 2.5 2.6 0.123 x 2.4 % (2.5)" in text
    assert "Pascal Context, 59 classes 4x59x480x480 10411.5 41.36 40.10-42.90 0.50 x" in text
    assert "5 stochastic passes given ready-made" in text
    assert "class counts of the training set, 5 Monte-Carlo passes a step with gradients" in text
    assert "its state in checkpoints (steps)" in text
    assert "costs 0.25 in a perfect batch; where predicted, it is pushed down 0.5 x" in text
    assert "float16 fails (RuntimeError: not implemented)" in text
    assert "exception compaction: distances between pixels" in text


def test_a_card_with_less() -> None:
    poor = replace(CARD, standing=[], costs=[replace(COST, memory=None)], facts=[], passes=0, state=[], note="no luck")
    text = "\n".join(printed(poor, render_card))
    assert "not measured on streets: no luck" in text
    assert "40.10-42.90       -" in text
    assert "logits and labels, nothing else" in text


@pytest.mark.parametrize("verbose", [False, True])
def test_results(verbose: bool) -> None:
    results = [
        Result("shift", True, "logits of ±1e4", "value 1", "value 1"),
        Result("learns", False, "60 steps " * 20, "from 1 to 2", "a lower value"),
        Result("resample", True, "", "", "", skipped_reason="takes no resample"),
    ]
    lines = printed(results, render_results, verbose=verbose)
    assert lines[1].startswith("shift     ok    logits of +-1e4")
    assert lines[2].startswith("learns    FAIL  60 steps 60 steps")
    assert lines[2].split("...")[1].strip() == "from 1 to 2"
    assert lines[3] == "resample  skip  takes no resample"
    text = "\n".join(lines)
    assert "FAIL learns\n  fed:      60 steps" in text
    assert "  expected: a lower value" in text
    assert ("ok shift\n" in text) == verbose


def test_a_wide_terminal_has_what_was_expected_in_the_line() -> None:
    lines = printed([Result("learns", True, "60 steps", "from 2 to 1", "a lower value")], render_results, width=120)
    assert lines[0].split() == ["rule", "fed", "got", "expected"]
    assert lines[1].split() == ["learns", "ok", "60", "steps", "from", "2", "to", "1", "a", "lower", "value"]
