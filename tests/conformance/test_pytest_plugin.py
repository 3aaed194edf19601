"""`pytest --pyargs lossbench.conformance --loss ...`, as other packages run it; and other packages' own runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROKEN = Path(__file__).with_name("broken_losses.py")


def run(folder: Path, *arguments: str, plugin: bool = True) -> tuple[int, str]:
    """pytest in a folder of somebody else's; -p stands for the entry point, which a checkout need not have."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    loaded = ("-p", "lossbench.pytest_plugin") if plugin else ()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *loaded, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


CONFORMANCE = ("--pyargs", "lossbench.conformance")


def test_each_rule_is_a_test(tmp_path: Path) -> None:
    (tmp_path / "my_pkg").mkdir()
    (tmp_path / "my_pkg" / "__init__.py").touch()
    text = BROKEN.read_text().split("@register_loss(")
    (tmp_path / "my_pkg" / "losses.py").write_text("@register_loss(".join(text[:2]))  # `sound`
    code, said = run(tmp_path, *CONFORMANCE, "--loss", "my_pkg.losses.sound", "-v")
    assert code == 0, said
    assert "test_rule[loss-sound-gradcheck] PASSED" in said
    assert "17 passed, 2 skipped" in said


def test_a_failure_says_what_was_fed_and_expected(tmp_path: Path) -> None:
    code, said = run(
        tmp_path, *CONFORMANCE, f"--loss={BROKEN}", "--loss=focal", "-k", "loss-upside_down-learns or focal-shift"
    )
    assert code == 1, said
    assert "right below wrong" in said
    assert "Traceback" not in said
    assert "1 failed, 1 passed" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--loss", "fokal"], "did you mean 'focal'?"),
        (["--loss", "focal", "--param", "gama=3"], "did you mean 'gamma'?"),
        ([], "what shall be checked?"),
    ],
)
def test_a_mistake_is_a_line(tmp_path: Path, arguments: list[str], expected: str) -> None:
    code, said = run(tmp_path, *CONFORMANCE, *arguments)
    assert code == 4
    assert expected in said
    assert "Traceback" not in said


def test_other_runs_have_no_options_of_ours_and_import_nothing(tmp_path: Path) -> None:
    """A project with an option --loss of its own: two of a name would be an error."""
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--loss')\n")
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it(request):\n"
        "    assert request.config.getoption('--loss') == 'x'\n"
        "    ours = [name for name in sys.modules if name.startswith('lossbench')]\n"
        "    assert ours == ['lossbench', 'lossbench.pytest_plugin']\n"
        "    assert 'torch' not in sys.modules\n"
    )
    code, said = run(tmp_path, "--loss", "x")
    assert code == 0, said


def test_the_entry_point_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"lossbench": "lossbench.pytest_plugin"}
