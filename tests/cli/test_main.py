"""The entry point: verbs, exit codes, errors in one line, help that fits 80 columns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lossbench
from lossbench.cli import main as entry
from lossbench.cli.common import duration
from lossbench.errors import ConfigError, LossbenchError, SetupError

ROOT = Path(__file__).parents[2]
VERBS = [name for name, _ in entry.VERBS]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["--help"]) == 0
    out = capsys.readouterr().out
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\S", out, re.MULTILINE), verb
    assert entry.run([]) == 0  # bare: the same
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_fits_and_ends_its_text_with_an_example(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert re.search(rf"^  Example:\n    lossbench {verb}( .*)?$", out, re.MULTILINE)
    assert "\b" not in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["--version"]) == 0
    assert capsys.readouterr().out == f"lossbench {lossbench.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["lst"], "unknown command 'lst'", "did you mean 'list'?"),
        (["zzz"], "unknown command 'zzz'", "one of: "),
        (["list"], "Missing argument 'WHAT'", "see `lossbench list --help`"),
        (["list", "losses", "--jsn"], "No such option: --jsn", "see `lossbench list --help`"),
        (["--colour"], "No such option: --colour", "see `lossbench --help`"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    arguments: list[str], error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first.startswith(f"error: {error}")
    assert second.startswith(f"hint: {hint}")


def add_verb(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def boom() -> None:
        """Fail."""
        raise error

    monkeypatch.setattr(entry, "VERBS", (("boom", "somewhere:boom"),))
    monkeypatch.setattr(entry, "_load", lambda target: boom)


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (LossbenchError("cells failed"), 1, ["error: cells failed"]),
        (ConfigError("a.yaml:3: [bold]no[/bold]", hint="yes"), 2, ["error: a.yaml:3: [bold]no[/bold]", "hint: yes"]),
        (ConfigError("one\ntwo"), 2, ["error: one", "error: two"]),
        (SetupError("no disk " + "x" * 200), 3, ["error: no disk " + "x" * 200]),
        (KeyboardInterrupt(), 130, None),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException,
    code: int,
    lines: list[str] | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_verb(monkeypatch, error)
    assert entry.run(["boom"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    if lines is not None:
        assert captured.err.splitlines() == lines


@pytest.mark.parametrize("arguments", [["--debug", "boom"], ["boom", "--debug"]])
def test_debug_shows_the_traceback(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_verb(monkeypatch, ConfigError("wrong"))
    assert entry.run(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("error: wrong\n")


def test_a_bug_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    add_verb(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        entry.run(["boom"])


def lossbench_in_a_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    call = f'{sys.executable} -c "from lossbench.cli.main import main; main()"'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("lossbench", call)],
        cwd=ROOT, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **environment},
    )  # fmt: skip


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = lossbench_in_a_shell("lossbench list suites --json | true")
    assert done.stderr == ""


def test_errors_go_to_stderr_with_their_code_and_colour_only_where_wanted() -> None:
    done = lossbench_in_a_shell("lossbench lst", FORCE_COLOR="1", NO_COLOR="1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "\x1b[31m" not in done.stderr
    assert "\x1b[1;31m" not in done.stderr
    assert "unknown command" in done.stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (45.2, "45 s"),
        (59, "59 s"),
        (187, "3 min"),
        (7387, "2 h 03 min"),
        (100, "2 min"),
        (3600, "60 min"),
        (12_000, "3 h 20 min"),
        (190_800, "2 d 5 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_help_of_all_has_a_whole_line_for_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(entry.SUMMARIES) == VERBS
    assert entry.run(["--help"]) == 0
    assert all(len(line) < 80 for line in capsys.readouterr().out.splitlines())
