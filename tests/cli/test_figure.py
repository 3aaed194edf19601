"""`lossbench figure`, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lossbench.cli import main as entry
from lossbench.records import Record
from lossbench.store import Store
from tests.factories import put, quickstart
from tests.figures.conftest import Kept, kept, kept_once  # noqa: F401


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(tmp_path / "results"))
    quickstart(Store(tmp_path / "results"))
    return tmp_path / "results"


def figure(*arguments: object) -> int:
    return entry.run(["figure", *map(str, arguments)])


def records(kept: Kept) -> list[Record]:  # noqa: F811
    return [stored.record for stored in kept.store.read_all()[0]]


@pytest.mark.parametrize("name", ["a.png", "new/a.svg", "a.pdf"])
def test_a_file_and_its_caption(results: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert figure("classes", "--dataset", "streets", "--output", name) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == name
    assert "IoU per class on streets / fcn_timm" in out
    assert max(map(len, out.splitlines())) <= 80
    assert err == ""
    assert Path(name).stat().st_size > 5000


def test_the_default_name_and_the_numbers(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert figure("curves", "--loss", "*ce", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == "curves-streets.png"
    assert Path("curves-streets.png").is_file()
    assert [line["loss"] for line in told["data"]["loss"]] == ["ce", "balanced_ce"]
    assert len(told["records"]) == 6
    assert "3 seeds" in told["caption"]


def test_a_sweep(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for imbalance in (10.0, 100.0):
        put(Store(results), dataset="tiles", dataset_params={"imbalance": imbalance})
    assert figure("sweep", "--dataset", "tiles", "--parameter", "imbalance", "--metric", "mf1", "--width", "3.5") == 0
    assert Path("sweep-tiles.png").is_file()


def test_panels(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    path = tmp_path / "p.png"
    assert figure("panels", "--dataset", "streets", "--results", kept.results, "-o", path, "--seed", 1) == 0
    out, err = capsys.readouterr()
    assert "seed 1" in out
    assert err == ""
    (focal,) = [record.id for record in records(kept) if record.labels["loss"] == "focal" and record.seed == 0]
    (kept.store.run_dir(focal) / "predictions" / "index.json").unlink()
    assert figure("panels", "--results", kept.results, "-o", path, "--seed", 0, "--json") == 0
    out, err = capsys.readouterr()
    assert [list(entry["miou"]) for entry in json.loads(out)["data"]] == [["ce"], ["ce"]]
    assert "no predictions of that seed were kept: focal" in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["pannels"], "unknown figure 'pannels'", "did you mean 'panels'?"),
        (["classes", "--dataset", "street"], "no record matches --dataset 'street'", "did you mean 'streets'?"),
        (["classes", "-o", "a.jpg"], "cannot draw '.jpg' files", ".png, .svg, .pdf"),
        (["classes", "--seed", "0"], "--seed is of `figure panels`", "leave it out"),
        (["curves", "--style", "dots"], "--style is of `figure classes`", "leave it out"),
        (["classes", "--width", "0.5"], "--width 0.5", "7.16"),
        (["panels", "--columns", "0"], "--columns 0", "leave it out"),
        (["sweep"], "which parameter?", "--parameter imbalance"),
        (["sweep", "--parameter", "imbalance"], "no parameter 'imbalance'", "none"),
        (["panels"], "has kept predictions", "lossbench run SUITE"),
        (["classes", "--variant", "lr"], "no runs are of the variant 'lr'", "'main'"),
        (["classes", "--fresh"], "every matching run is stale", "--fresh"),
        (["curves", "--results", "nowhere"], "no records in nowhere", "run a suite first"),
    ],
)
def test_mistakes_are_a_line_and_a_hint(
    results: Path, arguments: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figure(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert hint in err
    assert not list(Path().glob("*.png"))


def test_an_output_that_cannot_be_written(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert figure("classes", "-o", "file/a.png") == 3
    assert "cannot write file/a.png" in capsys.readouterr().err
