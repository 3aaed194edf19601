"""`lossbench check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lossbench.cli.main import run
from lossbench.conformance import rules

HERE = Path(__file__).parents[1] / "conformance"


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_loss_that_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "cdfl", "--param", "passes=3", "--no-timing"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines()[1:])) <= 80
    assert out.isascii()
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines if line[1:2] == ["ok"]] == list(rules("loss"))
    assert "19 of 19 rules pass" in out
    assert "3 Monte-Carlo passes a step" in out
    assert "a trained network" in out
    assert "ms" not in out.split()


def test_a_failure_in_full_and_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(HERE / "broken_losses.py"), "upside_down", "--no-timing"]) == 1
    out = capsys.readouterr().out
    assert "learns             FAIL" in out
    assert "FAIL learns\n  fed:      " in out
    assert "expected: right below wrong" in out
    assert "1 FAIL: learns" in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "loss", "focal", "--param", "gamma=3", "--no-timing", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["name"], report["ok"]) == ("loss", "focal", True)
    assert report["parameters"] == {"gamma": 3}
    assert [rule["rule"] for rule in report["rules"]] == list(rules("loss"))
    assert report["card"]["standing"][1]["gradient"] > 0
    assert report["card"]["costs"] == []


def test_terms(capsys: pytest.CaptureFixture[str]) -> None:
    terms = "terms=[{name: ce, weight: 0.8}, {name: cdfl, passes: 2}]"
    assert run(["check", "sum", "--param", terms, "--no-timing"]) == 0
    assert "2 Monte-Carlo passes a step" in capsys.readouterr().out


def test_a_backbone_and_a_dataset_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(HERE / "broken_backbones.py"), "dead_branch", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [rule["rule"] for rule in report["rules"] if not rule["ok"]] == ["gradient"]
    assert report["card"] is None
    assert run(["check", "streets", "--param", "train_images=9", "--param", "val_images=2", "--verbose"]) == 0
    out = capsys.readouterr().out
    assert "train, 8 of 9 images" in out
    assert "ok disjoint\n  fed: " in out


def test_a_loss_that_cannot_be_called_has_no_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(HERE / "broken_losses.py"), "cannot_be_built", "--no-timing"]) == 1
    out = capsys.readouterr().out
    assert "0 of 19 rules pass" in out
    assert "loss card" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fokal"], 2, "did you mean 'focal'?"),
        (["loss"], 2, "which loss?"),
        (["loss", "streets"], 2, "no loss is called 'streets'"),
        (["focal", "--param", "gama=1"], 2, "did you mean 'gamma'?"),
        (["focal", "--param", "gamma=-1"], 2, "gamma must be at least 0"),
        (["focal", "--param", "gamma=x"], 2, "'gamma' must be float"),
        (["sum"], 2, "--param 'terms=[{name: ce}, {name: dice, weight: 0.5}]'"),
        (["sum", "--param", "terms=[{name: fokal}]"], 2, "did you mean 'focal'?"),
        ([str(HERE / "broken_losses.py"), "--param", "a=1"], 2, "give its NAME after the file"),
        ([str(HERE / "broken_losses.py"), "sond"], 2, "did you mean 'sound'?"),
        (["camvid", "--data-root", "."], 3, "camvid"),
    ],
)
def test_mistakes(
    arguments: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["check", *arguments]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert not captured.out
