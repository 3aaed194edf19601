"""arguments.py: a plain command line means here what it means to Typer, and anything else is left to Typer."""

from __future__ import annotations

import random
from functools import wraps
from pathlib import Path

import pytest

from lossbench.cli import typed
from lossbench.cli.arguments import parse
from lossbench.cli.leaderboard import leaderboard
from lossbench.cli.list import list_
from lossbench.cli.plan import plan
from lossbench.cli.run import run
from lossbench.cli.show import show
from lossbench.cli.status import status
from lossbench.errors import ConfigError

PLAIN = {
    list_: [["losses"], ["losses", "c*"], ["--json"], ["--plugin", "a.py"], ["--plugin=b.py"]],
    plan: [["quickstart"], ["--results", "here"], ["--json"], ["--plugin", "a.py"]],
    status: [["quickstart"], ["--results=here"], ["--json"]],
    show: [["loss"], ["cdfl"], ["--data-root", "data"], ["--json"]],
    leaderboard: [
        ["--dataset", "str*"], ["--loss=cdfl(omega=0.01)"], ["--per-class"], ["--runs"], ["-f", "csv"],
        ["--format", "latex"], ["--format=json"], ["--output", "a.txt"], ["-o", "b/c.txt"], ["--sort", "miou"],
        ["--trust-index"], ["--equivalence", "0.3"], ["--equivalence=1"], ["--equivalence", ".5"],
        ["--equivalence", "x"], ["--plugin", "a.py"], ["--plugin", "b.py"], ["--results", "somewhere else"],
    ],
}  # fmt: skip


def by_typer(function, words):
    """The arguments that Typer calls the verb with, or None when it calls nothing."""
    calls = []

    @wraps(function)
    def record(**given):
        calls.append(given)

    try:
        typed.dispatch(["verb", *words], [("verb", record), ("other", lambda: None)], "verb")
    except ConfigError:
        return None
    return calls[0] if calls else None


@pytest.mark.parametrize("function", PLAIN, ids=lambda function: function.__name__)
def test_a_plain_line_is_read_as_typer_reads_it(function, monkeypatch):
    monkeypatch.delenv("LOSSBENCH_RESULTS", raising=False)
    rng = random.Random(0)
    read = 0
    for _ in range(60):
        words = [
            word for part in rng.sample(PLAIN[function], rng.randint(0, min(4, len(PLAIN[function])))) for word in part
        ]
        ours, theirs = parse(function, words), by_typer(function, words)
        if ours is not None:
            read += 1
            assert ours == theirs, words
        elif theirs is not None:  # left to Typer without need: only what is given twice, which it lets override
            names = [word.partition("=")[0] for word in words if word.startswith("-")]
            names = ["--" + {"f": "format", "o": "output"}.get(n.lstrip("-"), n.lstrip("-")) for n in names]
            assert len(set(names)) < len(names), words
    assert read > 20


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["--jsn"], ["--format", "xml"], ["--sort"], ["--sort", "--json"], ["--json=yes"], ["-fcsv"], ["--"],
        ["--sort", ""], ["--sort", "a", "--sort", "b"], ["surplus"], ["--output", "."], ["-"],
    ],
)  # fmt: skip
def test_what_is_unusual_is_left_to_typer(words):
    assert parse(leaderboard, words) is None


def test_a_missing_argument_is_left_to_typer():
    assert parse(list_, []) is None


def test_a_verb_that_declares_to_typer_alone_is_left_to_it():
    assert parse(run, ["quickstart"]) is None


def test_the_environment_names_the_results(monkeypatch):
    monkeypatch.setenv("LOSSBENCH_RESULTS", "elsewhere")
    assert parse(status, ["x"])["results"] == Path("elsewhere") == by_typer(status, ["x"])["results"]
    assert parse(status, ["x", "--results", "here"])["results"] == Path("here")
