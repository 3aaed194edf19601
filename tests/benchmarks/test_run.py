"""Every benchmark group runs. What it measures is looked at by people: no test depends on a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import Row, Spread, Table, interleave, peak_bytes
from benchmarks.run import GROUPS, LONG, cells, markdown

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("group", [*GROUPS, *LONG])
def test_a_group_runs(group: str) -> None:
    command = [sys.executable, "benchmarks/run.py", group, "--quick", "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)["groups"][group]
    assert tables
    for table in tables:
        assert table["title"]
        assert any(row["ms"] or row["ratio"] or row["extra"] for row in table["rows"])


def test_an_unknown_group_is_a_usage_error() -> None:
    done = subprocess.run([sys.executable, "benchmarks/run.py", "speed"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no group speed" in done.stderr


def test_every_candidate_runs_in_every_round() -> None:
    calls = {"a": 0, "b": 0}

    def work(name: str) -> None:
        calls[name] += 1

    spreads = interleave({n: lambda n=n: work(n) for n in calls}, baseline="a", rounds=5, warmup=2, repeat=3)
    assert calls == {"a": 17, "b": 17}
    assert spreads["a"][1] == Spread(1, 1, 1)


def test_peak_memory_sees_a_temporary() -> None:
    assert peak_bytes("tests.benchmarks.memory", "temporary", "40") == pytest.approx(40 << 20, rel=0.1)


def test_a_target_is_judged_by_the_median() -> None:
    rows = [
        Row("fast", Spread(1, 1, 1), Spread(0.5, 0.4, 2.0), target=1.0),
        Row("slow", Spread(3, 3, 3), Spread(3.0, 3.0, 3.0), target=1.0),
        Row("cached", Spread(3, 3, 3), Spread(3.0, 3.0, 3.0), target=2.0, at_least=True),
        Row("other", peer=True),
    ]
    table = Table("Title", "CE", rows, note="A note.")
    assert [row.met for row in rows] == [True, False, True, None]
    assert "<= 1 missed" in cells(table, rows[1])
    assert "| **slow** | 3.00 |" in markdown(table)
    assert "| other |" in markdown(table)
