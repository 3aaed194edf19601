"""`lossbench audit`, as a user meets it."""

from __future__ import annotations

import io
import json
import sys

import pytest

from lossbench.cli.main import run
from lossbench.store import Store
from tests.factories import put, quickstart


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("LOSSBENCH_RESULTS", raising=False)


@pytest.fixture
def results(tmp_path):
    quickstart(Store(tmp_path / "results"))
    return tmp_path / "results"


def test_the_published_tables_show_their_six_rows(capsys):
    assert run(["audit", "--published"]) == 1
    out = capsys.readouterr().out
    assert out.count("3 cannot be") == 2
    assert "8 rows in all: 6 cannot be." in out
    assert sum("  = mRec  " in line for line in out.splitlines()) == 6
    assert out.count("one formula") == 1
    assert max(map(len, out.splitlines())) <= 80


def test_json(capsys):
    assert run(["audit", "--published", "--json"]) == 1
    loaded = json.loads(capsys.readouterr().out)
    assert (loaded["possible"], loaded["rows"], loaded["impossible_rows"]) == (False, 8, 6)
    assert [source["kind"] for source in loaded["sources"]] == ["published", "published"]


@pytest.mark.parametrize("how", ["option", "environment", "working folder"])
def test_our_own_records_pass(results, how, monkeypatch, capsys):
    arguments = ["audit"]
    if how == "option":
        arguments += ["--results", str(results)]
    elif how == "environment":
        monkeypatch.setenv("LOSSBENCH_RESULTS", str(results))
    else:
        monkeypatch.chdir(results.parent)
    assert run(arguments) == 0
    assert "18 rows" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["csv"], ["json"], ["csv", "--per-class"], ["csv", "--runs"], ["json", "--runs"]])
def test_our_own_leaderboard_passes(results, tmp_path, options, capsys):
    put(Store(results), loss="dice", seed=7, quality=0.01)
    file = tmp_path / "board"
    assert run(["leaderboard", "--results", str(results), "--output", str(file), "--format", *options]) == 0
    assert run(["audit", str(file)]) == 0
    assert "all possible" in capsys.readouterr().out


def test_several_tables_and_standard_input(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.csv").write_text("loss,mIoU,mPrec\nce,50,60\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"loss,mIoU,mPrec\nce,0.665,60\ndf,80,70\n")))
    assert run(["audit", str(tmp_path / "a.csv"), "-"]) == 1
    out = capsys.readouterr().out
    assert f"{tmp_path / 'a.csv'}: 1 row" in " ".join(out.split()).replace("\n", "")
    assert "standard input: 2 rows" in out
    assert "<= mPrec" in out


def test_fractions_among_percentages_are_hinted_at(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("loss,mIoU,mPrec,mRec\nce,66.5,0.81,76.3\n")
    assert run(["audit", str(tmp_path / "a.csv")]) == 1
    assert "ce: mPrec 0.81: fractions among percentages?" in capsys.readouterr().out


def test_damaged_and_changed_records_are_found(results, capsys):
    first, second, third = sorted(results.rglob("*.json"))[:3]
    first.write_text(first.read_text()[:300])
    record = json.loads(second.read_text())
    record["cell"]["seed"] = 99
    second.write_text(json.dumps(record))
    record = json.loads(third.read_text())
    record["confusion"][0][0] += 1000
    third.write_text(json.dumps(record))
    assert run(["audit", "--results", str(results)]) == 1
    out = capsys.readouterr().out
    assert "18 rows" in out
    assert "3 cannot be" in out
    flat = " ".join(out.split())
    assert "not valid JSON" in flat
    assert "is not the hash of its cell" in flat
    assert "sum of TP" in flat


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--results", "nowhere"], "no records in nowhere"),
        (["missing.csv"], "cannot read missing.csv"),
        (["--publishd"], "No such option: --publishd"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments, said, capsys):
    assert run(["audit", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("error:") == 1
