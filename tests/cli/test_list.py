"""`lossbench list`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lossbench.cli.main import run
from lossbench.registry import Registry

PLUGIN = '''
from lossbench.registry import register_loss

raise RuntimeError("listing imports no plugin")


@register_loss("my_own")
class MyOwn:
    """My own loss.

    More about it.
    """

    def __init__(self, num_classes: int, *, gamma: float = 2.0, strict: bool = False, power: int | None = None): ...
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "my_own.py"
    file.write_text(PLUGIN)
    return str(file)


def test_names_summaries_and_parameters(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "losses", "my*", "--plugin", plugin]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["my_own  My own loss.", "gamma=2.0  strict=false  power=null"]


def test_json(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "losses", "my_own", "--json", "--plugin", plugin]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["name"] == "my_own"
    assert entry["facts"] == ["num_classes"]
    assert entry["file"] == plugin
    assert entry["parameters"][0] == {"name": "gamma", "type": "float", "required": False, "default": 2.0}


@pytest.mark.parametrize(("what", "kind"), [("losses", "loss"), ("backbones", "backbone"), ("datasets", "dataset")])
def test_everything_registered_is_listed(what: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", what, "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == Registry(kind).names()  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["losses", "backbones", "datasets", "suites"])
def test_lists_fit_80_columns(what: str, plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", what, "--plugin", plugin]) == 0
    assert max((len(line.rstrip()) for line in capsys.readouterr().out.splitlines()), default=0) <= 80


def test_suites_of_the_folder_and_shipped_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "mine.yaml").write_text("description: my very own\n")
    (tmp_path / "suites" / "broken.yaml").write_text("a: [\n")
    assert run(["list", "suites", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["mine"]["summary"] == "my very own"
    assert "broken.yaml:" in entries["broken"]["summary"]  # listed, with what is wrong with it
    assert "quickstart" in entries


def test_nothing_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "losses", "zzz*"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no losses match 'zzz*'\n")


def test_unknown_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "loses"]) == 2
    assert "did you mean 'losses'?" in capsys.readouterr().err
