"""`lossbench diagnostics`, as a user meets it."""

from __future__ import annotations

import json
import math
import re

import pytest

from lossbench.cli.main import run
from lossbench.store import Store
from tests.factories import CLASSES, SHARES, make_record, put

C = len(CLASSES)


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("LOSSBENCH_RESULTS", raising=False)


def tell(store, loss, seed, diagnostics, **options):
    cell, record, per_image = make_record(loss=loss, seed=seed, **options)
    record.diagnostics = diagnostics
    store.write(cell, record, per_image, [f"image_{i}" for i in range(len(per_image))])


def told(scale):
    return {
        "u_mean": [scale, 2 * scale, 3 * scale],
        "df_ce_ratio": [1e-8 * scale, math.nan, 1e-6 * scale],
        "u_mean_class": [[scale * (c + 1) for c in range(C)], [math.nan] * C],
        "class_steps": [1, 400],
    }


@pytest.fixture
def results(tmp_path):
    store = Store(tmp_path / "results")
    for seed in (0, 1):
        put(store, loss="ce", seed=seed)
        for omega in (0.1, 0.01, 0.001):
            tell(store, "cdfl", seed, told(0.5 + seed), params={"omega": omega})
        tell(store, "uce", seed, {"sigma_mean": [0.1, 0.2, 0.3]})
    return tmp_path / "results"


def out(capsys, *arguments, results):
    assert run(["diagnostics", *arguments, "--results", str(results)]) == 0
    return capsys.readouterr().out


def test_sections_by_diagnostic_and_rows_by_loss(results, capsys):
    text = out(capsys, results=results)
    lines = text.splitlines()
    assert lines[0] == "streets / fcn_timm"
    assert max(map(len, lines)) <= 80
    assert text.isascii()
    assert re.search(r"^ +step 1 +step 200 +step 400$", text, re.MULTILINE)
    assert [line for line in lines if line in ("u_mean", "df_ce_ratio", "sigma_mean")] == [
        "u_mean", "df_ce_ratio", "sigma_mean",
    ]  # fmt: skip
    first = lines.index("u_mean") + 1
    assert re.fullmatch(r"cdfl\(omega=0.001\) ~ +1.00 +\+-0.71 +2.00 +\+-1.4 +3.00 +\+-2.1", lines[first])
    assert re.search(r"uce ~ +0.100 +\+-0.0 +0.200 ", text)
    assert "No diagnostics in the records of ce." in text


def test_classes_are_ordered_by_frequency(results, capsys):
    text = out(capsys, "--loss", "cdfl*", results=results)
    table = text[text.index("u_mean_class") :].splitlines()[2:]
    assert [line.split()[0] for line in table[:C]] == list(CLASSES)
    assert table[0].split()[1] == f"{100 * SHARES[0] / sum(SHARES):.3f}"
    assert table[1].split()[-1] == "2.00"  # of 0.5 * 2 and 1.5 * 2


def test_markdown(results, capsys):
    text = out(capsys, "--format", "markdown", results=results)
    assert "| diagnostic | loss | start (step 1) | middle (step 200) | end (step 400) |" in text
    assert "| df_ce_ratio | cdfl(omega=0.01) \\~ | 1.00e-08 ±7.1e-09 | - | 1.00e-06 ±7.1e-07 |" in text
    assert "| class (u_mean_class) | pixels (train %) | group |" in text
    assert "- No diagnostics in the records of ce." in text
    assert "`lossbench show cdfl`" in text
    assert text.endswith("\n")


def test_json(results, capsys):
    loaded = json.loads(out(capsys, "--json", results=results))
    (block,) = loaded["blocks"]
    assert [loss["loss"] for loss in block["losses"]] == [*(f"cdfl(omega={x})" for x in (0.001, 0.01, 0.1)), "uce"]
    assert block["silent"] == ["ce"]
    cdfl = block["losses"][0]
    assert cdfl["diagnostics"]["u_mean"]["end"]["mean"] == 3
    assert cdfl["diagnostics"]["df_ce_ratio"]["middle"] == {"mean": None, "sd": None, "n": 0}
    assert cdfl["classes"]["u_mean_class"]["road"]["n"] == 2
    assert (cdfl["seeds"], cdfl["steps"]) == ([0, 1], {"start": [1], "middle": [200], "end": [400]})
    assert len(cdfl["ids"]) == 2


def test_blocks_of_several_datasets(results, capsys):
    tell(Store(results), "cdfl", 0, told(1.0), dataset="camvid")
    text = out(capsys, results=results)
    assert text.startswith("camvid / fcn_timm\n")
    assert "\n\nstreets / fcn_timm\n" in text
    assert "of 1 seed; " in text
    assert "streets" not in out(capsys, "--dataset", "camvid", results=results)


def test_marks_and_their_meaning(results, capsys):
    tell(Store(results), "cdfl", 5, told(1.0), params={"omega": 0.1}, status="diverged")
    text = out(capsys, results=results)
    assert "cdfl(omega=0.1) !~" in text
    assert "!: diverged runs" in text
    assert "~: made by other code" in text
    assert "over 2 to 3 seeds" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--loss", "ce"], "no diagnostics in the records of ce"),
        (["--loss", "cdlf"], "no record matches --loss 'cdlf'"),
        (["--fresh"], "every matching run is stale"),
        (["--json", "--format", "markdown"], "--json and --format markdown contradict each other"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(results, arguments, error, capsys):
    assert run(["diagnostics", *arguments, "--results", str(results)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: {error}"
    assert second.startswith("hint: ")


def test_no_records(tmp_path, capsys):
    assert run(["diagnostics", "--results", str(tmp_path / "none")]) == 2
    assert "no records in" in capsys.readouterr().err
