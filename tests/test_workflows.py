"""The workflows of GitHub Actions: their commands exist, and nothing with a token runs what a pull request brings."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lossbench.cli.arguments import parse
from lossbench.cli.main import VERBS, _load
from lossbench.cli.main import run as command_line

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
#: The one action of others: the standard one for trusted publishing, at the branch its makers say to use.
PUBLISH = "pypa/gh-action-pypi-publish@release/v1"
#: What PyYAML makes of the key `on`.
ON: Any = True


def load(file: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(file.read_text())
    return loaded


def steps(file: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(job, step) of a workflow."""
    for job in load(file)["jobs"].values():
        for step in job["steps"]:
            yield job, step


def commands(word: str) -> list[tuple[str, list[str]]]:
    """(file, words after `word`) of each call of a program, up to the shell's next operator."""
    found = []
    for file in FILES:
        for _, step in steps(file):
            for line in step.get("run", "").replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if word in words[:1]:
                    end = next((n for n, item in enumerate(words) if item in ("||", "&&", "|", ">", ">>")), len(words))
                    found.append((file.name, words[1:end]))
    return found


def test_there_are_workflows():
    assert {file.name for file in FILES} >= {
        "ci.yml", "docs.yml", "release.yml", "results.yml", "results-comment.yml",
    }  # fmt: skip
    verbs = [words[0] for file, words in commands("lossbench") if file in ("docs.yml", "results.yml")]
    assert verbs == ["verify", "report", "verify"]


@pytest.mark.parametrize(("file", "words"), commands("lossbench"), ids=lambda item: str(item))
def test_verbs_and_options_are_real(file, words, capsys):
    targets = dict(VERBS)
    if words[0] == "report" and "report" not in targets:
        pytest.skip("the verb report is not here yet")
    function = _load(targets[words[0]])
    if parse(function, [word for word in words[1:] if word != "$ALLOW"]) is None:  # left to Typer
        assert command_line([words[0], "--help"]) == 0
        said = capsys.readouterr().out.split()
        assert {word for word in words if word.startswith("-")} <= set(said)
    if "$ALLOW" in words:
        assert parse(function, ["--allow-changes"]) is not None
        assert "&& '--allow-changes'" in (FOLDER / file).read_text()


def test_scripts_and_extras_are_real():
    for file in FILES:
        for _, step in steps(file):
            for script in re.findall(r"^\.\S+", step.get("run", ""), flags=re.MULTILINE):
                assert (ROOT / script).is_file()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    used = {extra for _, words in commands("pip") for word in words for extra in re.findall(r"\[(\w+)\]", word)}
    assert used - {"report"} <= extras.keys()
    if "report" in dict(VERBS):
        assert "report" in extras


def test_what_verify_is_installed_with_is_what_lossbench_depends_on():
    (words,) = [words for _, words in commands("pip") if "--no-deps" in words]
    text = (FOLDER / "results.yml").read_text()
    (line,) = [line for line in text.splitlines() if "--no-deps" in line]
    named = shlex.split(line.rpartition("pip install")[2])
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(named) <= {re.split("[>=<]", need)[0] for need in needs}
    assert words[1] == "./base"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_rights_are_few_and_actions_are_pinned(file):
    workflow = load(file)
    assert set((workflow["permissions"] or {}).values()) <= {"read"}
    for job, step in steps(file):
        assert "timeout-minutes" in job or "environment" in job
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) or step["uses"] == PUBLISH
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", ""), "text of a pull request must not become part of a script"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_with_a_token_runs_what_a_pull_request_brings(file):
    workflow = load(file)
    triggers = workflow[ON]
    assert "pull_request_target" not in triggers
    writes = [
        job
        for job in workflow["jobs"].values()
        if "write" in (job.get("permissions", workflow["permissions"]) or {}).values()
    ]
    for job in writes:
        assert not any("checkout" in step.get("uses", "") for step in job["steps"])
        assert not any(
            re.search(r"^\s*(pip|python|lossbench)\b", step.get("run", ""), re.MULTILINE) for step in job["steps"]
        )
    if "pull_request" in triggers and writes:
        needed = {name for job in writes for name in [job.get("needs")]}
        assert all("!= 'pull_request'" in workflow["jobs"][name]["if"] for name in needed)


def test_the_comment_follows_the_verification():
    assert load(FOLDER / "results-comment.yml")[ON]["workflow_run"]["workflows"] == [
        load(FOLDER / "results.yml")["name"]
    ]


def test_a_release_is_tried_before_it_is_published_and_by_every_python():
    jobs = load(FOLDER / "release.yml")["jobs"]
    assert [jobs[name].get("needs") for name in ("build", "try", "publish", "announce")] == [
        None, "build", "try", "publish"
    ]  # fmt: skip
    assert list(load(FOLDER / "release.yml")[ON]) == ["push"]
    assert list(load(FOLDER / "release.yml")[ON]["push"]) == ["tags"]
    assert jobs["try"]["strategy"]["matrix"] == load(FOLDER / "ci.yml")["jobs"]["check"]["strategy"]["matrix"]
    assert not [step for step in jobs["try"]["steps"] if "checkout" in step.get("uses", "")], "without the repository"
    publishing = [step for step in jobs["publish"]["steps"] if step.get("uses") == PUBLISH]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"]
    assert "with" not in publishing[0], "no host, no password: trusted publishing at the default index"


def test_the_notes_of_a_release_are_its_part_of_the_change_log(tmp_path):
    """The command of the workflow, as it stands there."""
    (line,) = re.findall(
        r"^\s*(awk .*) CHANGELOG.md > notes/notes.md$", (FOLDER / "release.yml").read_text(), re.MULTILINE
    )
    log = "# Changelog\n\n## Unreleased\n\n- new\n\n## 0.2.0 (2026-12-01)\n\n### Added\n\n- b\n\n## 0.1.0\n\n- a\n"
    (tmp_path / "log.md").write_text(log)
    for tag, notes in [("v0.2.0", "\n### Added\n\n- b\n\n"), ("v0.1.0", "\n- a\n"), ("v0.2", ""), ("v0.3.0", "")]:
        done = subprocess.run(
            ["bash", "-c", f"{line} log.md"],
            cwd=tmp_path,
            env={**os.environ, "TAG": tag},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, notes), done.stderr
