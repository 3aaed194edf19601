"""The commands of docs/tour.md run exactly as printed, from the installation on, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def first_words(line: str) -> tuple[str, ...]:
    """What of a line of output does not hang on the machine: the first two words of three letters or more."""
    return tuple(re.findall(r"[A-Za-z_]{3,}", line)[:2])


def script() -> str:
    """The blocks of the page one after the other; the shell stops at the first that fails."""
    found = blocks("bash")
    assert len(found) + len(blocks("text")) == len(re.findall(r"^```\w", PAGE, re.MULTILINE)), "every block is run"
    return "\n".join(["set -eu", *found])


def installed_packages(folder: Path) -> Path:
    """What is installed here without lossbench, as links: pip finds all that lossbench needs, but not lossbench.

    Returns a folder for PYTHONPATH, which has Python look there after its own library and before site-packages.
    """
    folder.mkdir()
    first = folder.with_name("first")
    first.mkdir()
    (first / "sitecustomize.py").write_text(
        "import sys\n"
        "place = next((n for n, path in enumerate(sys.path) if path.endswith('site-packages')), len(sys.path))\n"
        f"sys.path.insert(place, {str(folder)!r})\n"
    )
    for kind in ("purelib", "platlib"):
        for entry in Path(sysconfig.get_path(kind)).iterdir():
            place = folder / entry.name
            if not entry.name.startswith(("lossbench", "_editable_impl_lossbench")) and not place.exists():
                place.symlink_to(entry)
    return first


@pytest.mark.slow
def test_the_tour_runs_as_printed(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="pip install hatchling")
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    place = tmp_path / "empty"
    place.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LOSSBENCH_", "PIP_"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(installed_packages(tmp_path / "packages")),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "LOSSBENCH_CACHE": str(tmp_path / "cache"),
        "COLUMNS": "80",
    }
    done = subprocess.run(["bash", "-c", script()], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Successfully installed lossbench-" in done.stdout
    for said in ("lovasz_softmax minus ce", "site/index.html", "17 of 19 rules pass", "loss card"):
        assert said in done.stdout
    printed = {first_words(line) for line in done.stdout.splitlines()}
    for block in blocks("text"):
        for line in block.splitlines():
            assert first_words(line) in printed | {()}, line
    # Of the second suite, only the new loss trained.
    assert "9 cells, 6 done before, 3 to run" in done.stderr
    assert done.stdout.rstrip().count("\nmy_loss ") >= 1
    assert (place / "site" / "index.html").is_file()
    assert len(list((place / "results" / "records").rglob("*.json"))) == 9
