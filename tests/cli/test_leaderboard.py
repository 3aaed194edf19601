"""`lossbench leaderboard`, as a user meets it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from lossbench import index
from lossbench.cli import main as entry
from lossbench.cli.leaderboard import leaderboard
from lossbench.cli.typed import with_typer
from lossbench.errors import ConfigError, SetupError, UnknownNameError
from lossbench.store import Store
from tests.factories import put, quickstart

app = typer.Typer()
app.command()(with_typer(leaderboard))


@pytest.fixture
def results(tmp_path):
    quickstart(Store(tmp_path / "results"))
    return tmp_path / "results"


def invoke(*args, results=None):
    options = ["--results", str(results)] if results else []
    return CliRunner().invoke(app, [*map(str, args), *options])


def test_bare_it_shows_the_results_of_the_working_directory(results, monkeypatch):
    monkeypatch.delenv("LOSSBENCH_RESULTS", raising=False)
    monkeypatch.chdir(results.parent)
    outcome = invoke("--dataset", "streets")
    assert outcome.exit_code == 0
    assert "streets / fcn_timm" in outcome.stdout
    assert "lovasz_softmax" in outcome.stdout


def test_the_environment_names_the_results(results, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(results))
    monkeypatch.chdir(tmp_path)
    assert "lovasz_softmax" in invoke().stdout


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("form", ["table", "markdown", "csv", "latex", "json"])
@pytest.mark.parametrize("per_class", [False, True])
def test_every_format(results, form, runs, per_class):
    outcome = invoke("--format", form, *["--runs"] * runs, *["--per-class"] * per_class, results=results)
    assert outcome.exit_code == 0, outcome.exception
    assert "lovasz" in outcome.stdout
    if form == "json":
        json.loads(outcome.stdout)
    if form == "csv":
        assert len(list(csv.DictReader(io.StringIO(outcome.stdout)))) == (18 if runs else 6)


def test_json_is_short_for_its_format(results):
    assert invoke("--json", results=results).stdout == invoke("--format", "json", results=results).stdout


def test_filters_and_sort(results):
    put(Store(results), dataset="camvid")
    loaded = json.loads(
        invoke("--json", "--dataset", "str*", "--loss", "*ce", "--sort", "loss", results=results).stdout
    )
    (block,) = loaded["blocks"]
    assert [row["loss"] for row in block["rows"]] == ["balanced_ce", "ce"]


@pytest.mark.parametrize(("form", "name"), [("table", "a.txt"), ("latex", "tables/a.tex"), ("json", "a.json")])
def test_output_goes_to_a_file(results, tmp_path, form, name):
    outcome = invoke("--format", form, "--output", tmp_path / name, results=results)
    assert outcome.exit_code == 0
    assert outcome.stdout == ""
    assert "lovasz" in (tmp_path / name).read_text()


def test_an_output_that_cannot_be_written(results, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = invoke("--output", tmp_path / "file" / "a.txt", results=results)
    assert isinstance(outcome.exception, SetupError)
    assert "cannot write" in outcome.exception.message


def test_no_records_is_a_usage_error_with_a_hint(tmp_path):
    outcome = invoke(results=tmp_path / "nothing")
    assert isinstance(outcome.exception, ConfigError)
    assert outcome.exception.exit_code == 2
    assert "no records in" in outcome.exception.message
    assert "lossbench run quickstart" in (outcome.exception.hint or "")


@pytest.mark.parametrize(
    ("args", "kind", "hint"),
    [
        (["--dataset", "street"], ConfigError, "did you mean 'streets'?"),
        (["--loss", "focall"], ConfigError, "did you mean 'focal'?"),
        (["--versus", "focall"], ConfigError, "did you mean 'focal'?"),
        (["--backbone", "resnet"], ConfigError, "there are records of: fcn_timm"),
        (["--sort", "mIoUs"], UnknownNameError, "did you mean 'miou'?"),
        (["--fresh"], ConfigError, "leave out --fresh"),
        (["--fresh", "--runs"], ConfigError, "leave out --fresh"),
        (["--plugin", "missing.py"], ConfigError, None),
        (["--json", "--format", "csv"], ConfigError, "give one of them"),
        (["--no-index", "--trust-index"], ConfigError, "give one of them, or neither"),
        (["--equivalence", "0"], ConfigError, "e.g. 0.3"),
        (["--equivalence", "nan"], ConfigError, "e.g. 0.3"),
        (["--equivalence", "inf"], ConfigError, "e.g. 0.3"),
        (["--equivalence", "0.3", "--runs"], ConfigError, "seeds of a loss"),
    ],
)
def test_mistakes_are_one_line_and_a_hint(results, args, kind, hint):
    outcome = invoke(*args, results=results)
    assert isinstance(outcome.exception, kind)
    assert outcome.exception.exit_code == 2
    assert "\n" not in outcome.exception.message
    if hint:
        assert hint in (outcome.exception.hint or "")


def test_damaged_records_are_warned_of_and_the_others_shown(results):
    broken = next(results.rglob("focal-s1-*.json"))
    broken.write_text(broken.read_text()[:200])
    outcome = invoke(results=results)
    assert outcome.exit_code == 0
    assert outcome.stderr.startswith(f"warning: skipped {broken}: not valid JSON")
    assert outcome.stderr.count("\n") == 1
    assert "lovasz" in outcome.stdout
    assert broken.name not in outcome.stdout


def test_a_plugin_of_the_users_own_is_known(results, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from lossbench.registry import register_loss\n@register_loss('my_own')\ndef my_own():\n    '''Mine.'''\n"
    )
    put(Store(results), loss="my_own")
    without = invoke("--json", "--loss", "my_own", results=results).stdout
    assert "loss 'my_own' is not known here: give its file with --plugin" in without
    known = invoke("--json", "--loss", "my_own", "--plugin", plugin, results=results).stdout
    assert "loss 'my_own' changed since" in known


def test_a_plugin_file_without_a_plugin_is_said(results, tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    outcome = invoke("--plugin", tmp_path / "empty.py", results=results)
    assert isinstance(outcome.exception, ConfigError)
    assert "empty.py registers no loss, backbone or dataset" in outcome.exception.message


@pytest.mark.parametrize("use", ["--no-index", "--trust-index"])
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_with_and_without_the_index_the_same_is_printed(results, tmp_path, monkeypatch, use, form):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "SMALLEST", 0)
    expected = invoke("--format", form, results=results).stdout
    assert (tmp_path / "cache" / "leaderboard").is_dir()
    assert invoke("--format", form, use, results=results).stdout == expected


def test_it_imports_neither_torch_nor_pandas(results):
    code = (
        "import sys, typer\n"
        "from lossbench.cli.leaderboard import leaderboard\n"
        "from lossbench.cli.typed import with_typer\n"
        "app = typer.Typer(); app.command()(with_typer(leaderboard))\n"
        "for args in ([], ['--runs', '--format', 'csv'], ['--per-class', '--json']):\n"
        "    app([*args, '--results', sys.argv[1]], standalone_mode=False)\n"
        "heavy = {'torch', 'pandas', 'scipy.stats', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(results)], check=True, capture_output=True)


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "latex", "json"])
@pytest.mark.parametrize("where", ["beside", "other dataset", "no records"])
def test_published_rows_with_and_without_measured_ones(results, tmp_path, form, where):
    if where == "beside":
        put(Store(results), dataset="cityscapes", backbone="fcn_resnet50", loss="ce")
    folder = tmp_path / "nothing" if where == "no records" else results
    outcome = invoke("--dataset", "cityscapes", "--published", "--format", form, results=folder)
    assert outcome.exit_code == 0, outcome.exception
    text = " ".join(outcome.stdout.split())
    assert "published, not re-run" in text
    assert "10.1109/SDF55338.2022.9931700" in text
    assert "66.51" in text
    assert "67.74" not in text  # table II is of another dataset
    if form == "json":
        assert len(json.loads(outcome.stdout)["blocks"]) == (1 if where == "beside" else 0)


@pytest.mark.parametrize("dataset", ["voc2010", "pascal_context"])
def test_the_second_table_is_found_by_both_names(tmp_path, dataset):
    outcome = invoke("--dataset", dataset, "--published", results=tmp_path)
    assert "pascal_context / FCN" in outcome.stdout
    assert "The table is named PASCAL VOC 2010" in " ".join(outcome.stdout.split())


def test_without_a_published_table_that_matches_it_is_said(results):
    outcome = invoke("--dataset", "streets", "--published", results=results)
    assert outcome.exit_code == 0
    assert "no published table matches; there are tables of cityscapes, pascal_context" in outcome.stderr
    plain = invoke("--dataset", "streets", results=results)
    assert outcome.stdout == plain.stdout
    missing = invoke("--dataset", "street", "--published", results=results)
    assert isinstance(missing.exception, ConfigError)


def test_published_rows_are_no_runs(results):
    outcome = invoke("--published", "--runs", results=results)
    assert isinstance(outcome.exception, ConfigError)
    assert "--runs and --published contradict" in outcome.exception.message


def test_published_rows_stay_when_every_run_is_stale(results):
    put(Store(results), dataset="cityscapes", backbone="fcn_resnet50", loss="ce")
    outcome = invoke("--published", "--fresh", "--dataset", "cityscapes", results=results)
    assert outcome.exit_code == 0
    assert "cityscapes / FCN (published" in outcome.stdout


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "latex", "json"])
def test_tests_of_the_differences_in_every_format(results, form):
    without = invoke("--format", form, results=results).stdout
    tested = invoke("--format", form, "--equivalence", "0.3", results=results).stdout
    for word in ("p_difference", "p_equivalence") if form in ("csv", "json") else ("p diff", "p equiv", "Schuirmann"):
        assert word in tested
        assert word not in without
    assert "verdict" in tested
    if form == "json":
        plain, made = json.loads(without), json.loads(tested)
        (block,) = made["blocks"]
        assert block.pop("tests")["margin"] == 0.3
        assert sum(row.pop("tested") is not None for row in block["rows"]) == 5
        assert made == plain
    if form == "csv":
        plain, made = (list(csv.DictReader(io.StringIO(text))) for text in (without, tested))
        extra = ("margin", "p_difference", "p_equivalence", "verdict", "detectable")
        assert [{key: row[key] for key in row if key not in extra} for row in made] == plain


def test_an_audit_reads_a_tested_leaderboard(results, monkeypatch):
    from lossbench.cli.main import run

    text = invoke("--format", "csv", "--equivalence", "0.3", results=results).stdout
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run(["audit", "-"]) == 0


@pytest.mark.parametrize(("by", "shown"), [("tail_miou", "tail_miou"), ("car", None)])
def test_it_is_said_when_a_table_is_sorted_by_what_it_does_not_show(results, capsys, monkeypatch, by, shown):
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(results))
    monkeypatch.setenv("COLUMNS", "60")
    assert entry.run(["leaderboard", "--sort", by]) == 0
    title = "tail" if shown else by
    assert f"Sorted by {title}, which is not shown" in " ".join(capsys.readouterr().out.split())
    assert entry.run(["leaderboard", "--sort", by, *(["--columns", shown] if shown else ["--per-class"])]) == 0
    assert "Sorted by" not in capsys.readouterr().out
    assert entry.run(["leaderboard"]) == 0
    assert "Sorted by" not in capsys.readouterr().out


def test_columns_of_ones_choice(results, capsys, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(results))
    monkeypatch.setenv("COLUMNS", "80")
    assert entry.run(["leaderboard", "--columns", "tail_miou,mIoU,NLL"]) == 0
    head = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("loss"))
    assert head.split() == ["loss", "mIoU", "tail", "NLL"]
    counted = put(Store(results), dataset="camvid")
    data = json.loads(counted.read_text())
    counted.write_text(json.dumps(data | {"extra_counts": {"boundary": [[9, 1, 1]] * len(data["class_names"])}}))
    put(Store(results), dataset="camvid", loss="focal")
    assert entry.run(["leaderboard", "--columns", "miou,bIoU", "--dataset", "camvid"]) == 0
    assert "No bIoU (-): not all records of the row hold counts for it" in " ".join(capsys.readouterr().out.split())
    assert entry.run(["leaderboard", "--columns", "miou,bIoU", "--dataset", "camvid", "--loss", "ce"]) == 0
    assert "(-)" not in capsys.readouterr().out
    assert entry.run(["leaderboard", "--columns", "fine", "--test", "t"]) == 0
    out = capsys.readouterr().out
    assert "p Holm" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "No room for " in out
    for form in ("markdown", "latex"):
        assert entry.run(["leaderboard", "--columns", "nll", "--format", form]) == 0
        assert "NLL" in capsys.readouterr().out
    assert entry.run(["leaderboard", "--columns", "tail_mio"]) == 2
    assert "did you mean 'tail_miou'?" in capsys.readouterr().err


def test_tests_from_the_command_line(results, capsys, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(results))
    assert entry.run(["leaderboard", "--versus", "focal", "--test", "wilcoxon", "--bootstrap", "200", "--json"]) == 0
    (block,) = json.loads(capsys.readouterr().out)["blocks"]
    assert block["reference"] == "focal"
    assert all((row["significance"] is None) == (row["loss"] == "focal") for row in block["rows"])
    assert entry.run(["leaderboard", "--bootstrap", "3"]) == 2
    assert entry.run(["leaderboard", "--runs", "--test", "t"]) == 2


def test_a_reference_that_is_several_rows_is_refused_and_one_that_some_block_has_is_not(tmp_path):
    store = Store(tmp_path)
    for omega in (0.01, 0.1):
        put(store, loss="cdfl", params={"omega": omega}, label=f"cdfl(omega={omega})")
    outcome = invoke("--versus", "cdfl", results=tmp_path)
    assert isinstance(outcome.exception, ConfigError)
    assert outcome.exception.hint == "name one: 'cdfl(omega=0.01)', 'cdfl(omega=0.1)'"
    assert invoke("--versus", "cdfl(omega=0.1)", results=tmp_path).exit_code == 0
    assert invoke(results=tmp_path).exit_code == 0  # nobody asked for ce
    put(store, dataset="apart", loss="focal")
    assert invoke("--versus", "focal", results=tmp_path).exit_code == 0
