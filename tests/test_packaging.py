"""What is built is what is needed: the wheel works without the repository, and the source archive has no data in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import lossbench

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
needs_hatchling = pytest.mark.skipif(find_spec("hatchling") is None, reason="the extra `dev` has hatchling")


def build(kind: str, folder: Path) -> Path:
    """A wheel or an sdist, by the build back end itself: no network."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def in_tree(folder: Path) -> set[str]:
    """Files below a folder, but for what Python leaves behind."""
    return {
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    }


@needs_hatchling
def test_the_wheel_has_the_package_its_assets_the_suites_and_the_records_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {f"lossbench/{name}" for name in in_tree(ROOT / "lossbench")}
    suites = {f"lossbench/_suites/{name}" for name in in_tree(ROOT / "suites")}
    records = {f"lossbench/_results/records/{name}" for name in in_tree(ROOT / "results" / "records")}
    assert names == package | suites | {name for name in records if name.endswith(".json")}
    for needed in (
        "suite.schema.json",
        "code_history.json",
        "py.typed",
        "published/su2022.json",
        "templates/my_loss.py",
    ):
        assert f"lossbench/{needed}" in names
    assert any(name.startswith("lossbench/site/static/") for name in names)
    assert wheel.stat().st_size < 4e6


@needs_hatchling
def test_the_wheel_says_what_it_is(installed):
    (folder,) = installed.glob("*.dist-info")
    said = (folder / "METADATA").read_text(encoding="utf-8")
    assert f"Version: {lossbench.__version__}\n" in said
    assert "License-Expression: MIT\n" in said
    assert "Requires-Python: >=3.11\n" in said
    assert (folder / "licenses" / "LICENSE").is_file()
    assert "lossbench = lossbench.cli.main:main" in (folder / "entry_points.txt").read_text()


CALLS = {
    "list suites --json": lambda said: (
        {entry["name"] for entry in json.loads(said)} == {file.stem for file in (ROOT / "suites").glob("*.yaml")}
    ),
    "plan quickstart --results none --json": lambda said: "fcn_timm" in said,
    "leaderboard --published --results none": lambda said: "Su et al. 2022" in said,
    "schema --shipped": lambda said: "loss.cdfl" in json.loads(said)["$defs"],
    "new loss mine": lambda said: "mine.py" in said,
    "show loss cdfl": lambda said: "omega" in said,
    "advise --counts 900000,50000,3000": lambda said: "Worth trying first" in said,
}


@needs_hatchling
@pytest.mark.parametrize("call", CALLS)
def test_what_is_installed_works_without_the_repository(installed, call, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed), "LOSSBENCH_CACHE": str(tmp_path / "cache")}
    code = "import sys, lossbench; sys.stderr.write(lossbench.__file__); from lossbench.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *call.split()], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(str(installed))
    assert CALLS[call](done.stdout + done.stderr if call.startswith("new") else done.stdout)


@needs_hatchling
def test_the_source_archive_has_what_wheels_are_built_from_and_no_data(tmp_path):
    made = build("sdist", tmp_path)
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names}
    asked = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert all(entry.startswith("/") for entry in asked), "else it is matched at any depth"
    assert tops == {entry.strip("/").partition("/")[0] for entry in asked} | {
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    }
    assert not {"shared", "dist"} & tops
    assert {name for name in names if name.startswith("results/")} == {
        f"results/records/{name}" for name in in_tree(ROOT / "results" / "records") if name.endswith(".json")
    }
    assert not [name for name in names if name.endswith((".pyc", ".npz", ".pt", ".safetensors", ".zip", ".jpg"))]
    assert {f"lossbench/{name}" for name in in_tree(ROOT / "lossbench")} <= names
    assert made.stat().st_size < 5e6


def test_the_citation_is_that_of_this_version():
    """By the schema of the format: cffconvert --validate, in the release workflow."""
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert said["cff-version"] == "1.2.0"
    assert said["version"] == lossbench.__version__
    assert said["license"] == PROJECT["license"]
    assert [author["name"] for author in said["authors"]] == [author["name"] for author in PROJECT["authors"]]
    published = json.loads((ROOT / "lossbench" / "published" / "su2022.json").read_text())["source"]
    (paper,) = said["references"]
    assert [f"{each['given-names']} {each['family-names']}" for each in paper["authors"]] == published["authors"]
    assert (paper["title"], paper["year"], paper["doi"]) == (published["title"], published["year"], published["doi"])


def test_the_versions_of_python_are_the_same_everywhere():
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == classified
    assert PROJECT["requires-python"] == f">={classified[0]}"
    tools = PYPROJECT["tool"]
    assert tools["mypy"]["python_version"] == classified[0]
    assert tools["ruff"]["target-version"] == "py" + classified[0].replace(".", "")
