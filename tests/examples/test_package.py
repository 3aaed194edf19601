"""examples/lossbench-poly is a package as others would write it: built, installed beside, found, checked, trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "examples" / "lossbench-poly"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a process that has the package installed, from its wheel, in a folder of its own."""
    site, cache = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("cache")
    given = ["--quiet", "--no-deps", "--disable-pip-version-check", "--target", str(site)]
    if find_spec("hatchling") is not None:  # of the extra `dev`; else pip fetches it
        given.append("--no-build-isolation")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *given, str(PACKAGE)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    path = os.pathsep.join([str(ROOT), str(site)])
    return {**os.environ, "PYTHONPATH": path, "LOSSBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def run(environment: dict[str, str], folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_found_by_its_entry_point(environment: dict[str, str], tmp_path: Path) -> None:
    (found,) = json.loads(run(environment, tmp_path, "lossbench", "list", "losses", "poly2", "--json"))
    assert found["parameters"][0] == {"name": "epsilon1", "type": "float", "required": False, "default": 1.0}
    assert str(ROOT) not in found["file"]


def test_it_passes_its_checks(environment: dict[str, str], tmp_path: Path) -> None:
    assert "17 of 19 rules pass" in run(environment, tmp_path, "lossbench", "check", "lossbench_poly", "--no-timing")


def test_it_trains_in_a_suite(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        "datasets: [{name: streets, height: 48, width: 64, train_images: 8, val_images: 4}]\n"
        "backbones: [{name: fcn_timm, weights: none}]\n"
        "losses: [{name: poly2, epsilon2: 0.5}]\n"
        "seeds: 1\n"
        "protocol: {iterations: 2, batch_size: 4, crop: [32, 48], optimizer: adamw, lr: 0.002, min_lr: 0.0}\n"
    )
    run(environment, tmp_path, "lossbench", "run", "suite.yaml", "--threads", "1")
    (record,) = (tmp_path / "results" / "records").rglob("*.json")
    assert json.loads(record.read_text())["status"] == "ok"


def test_its_own_ci_passes(environment: dict[str, str]) -> None:
    """The commands of its workflow; -p stands for the entry point of an installed lossbench."""
    workflow = (PACKAGE / ".github" / "workflows" / "ci.yml").read_text()
    commands = [line.split("run: pytest ")[1] for line in workflow.splitlines() if "run: pytest " in line]
    assert len(commands) == 2
    for command in commands:
        plain = ["-p", "no:cacheprovider", "-p", "lossbench.pytest_plugin", "-o", "addopts=", "-q"]
        environment = {**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        said = run(environment, PACKAGE, "pytest", *plain, *command.split())
        assert "passed" in said
        assert "failed" not in said
