"""`lossbench check`."""

from __future__ import annotations

import json
import re
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


def test_what_a_loss_prints_is_not_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(HERE / "rude_losses.py"), "chatty", "--no-timing", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["ok"] is True
    assert "a line of the loss" in captured.err


def test_what_is_not_finite_is_null_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(HERE / "rude_losses.py"), "nan_for_twelve", "--no-timing", "--json"]) == 1

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    report = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert report["card"]["standing"][0]["value"] is None
    assert [rule["rule"] for rule in report["rules"] if not rule["ok"]] == ["scalar_finite"]


def test_a_loss_that_ends_the_process_ends_not_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(HERE / "rude_losses.py")
    assert run(["check", file, "leaves", "--param", "when=built", "--no-timing"]) == 1
    assert "0 of 19 rules pass" in capsys.readouterr().out


def test_a_loss_that_ends_the_process_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(*arguments: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("lossbench.conformance.losses.cost.costs", leave)
    assert run(["check", str(HERE / "rude_losses.py"), "well_behaved"]) == 0
    captured = capsys.readouterr()
    assert "19 of 19" not in captured.out, "two rules do not apply"
    assert "well_behaved is not timed: SystemExit: 0" in captured.err


def test_one_that_excuses_itself_wrongly_leaves_the_others_of_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (HERE / "rude_losses.py").read_text().partition('@register_loss("sets_global")')[0]
    one = '\n@register_loss("{0}")\nclass {0}(Base):\n    """One."""\n    conformance_exceptions = {1}\n'
    (tmp_path / "two.py").write_text(text + one.format("first", {"shfit": "x"}) + one.format("second", {}))
    assert run(["check", str(tmp_path / "two.py"), "--no-timing", "--json"]) == 1
    reports = json.loads(capsys.readouterr().out)
    assert [(report["name"], report["ok"]) for report in reports] == [("first", False), ("second", True)]


def test_verbose_says_of_every_rule_what_was_fed_got_and_expected(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "ce", "--no-timing"]) == 0
    assert "17 of 19 rules pass, 2 do not apply (--verbose shows all)" in capsys.readouterr().out
    assert run(["check", "ce", "--no-timing", "--verbose"]) == 0
    out = capsys.readouterr().out
    assert "--verbose" not in out
    assert max(map(len, out.splitlines()[1:])) <= 80
    for rule in rules("loss"):
        (paragraph,) = re.findall(rf"^(?:ok|skip) {rule}\n((?:  .*\n)+)", out, re.MULTILINE)
        said = dict(re.findall(r"^  (\w+): +(\S.*)$", paragraph, re.MULTILINE))
        assert set(said) == ({"reason"} if rule in ("resample", "diagnostics") else {"fed", "got", "expected"}), rule


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
        (["loss", "streets"], 2, "it is a dataset"),
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
