"""What docs/security.md promises: nothing runs that the user did not name, nothing is written outside its folder."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lossbench.cli.main import run
from lossbench.errors import ConfigError
from lossbench.execution import weights
from lossbench.registry import all_registries
from lossbench.store import Store
from lossbench.training import checkpoint
from lossbench.yamlfile import parse_yaml
from tests.execution.cellfactory import make_cell, make_spec
from tests.factories import put, quickstart

Verb = Callable[..., tuple[int, str]]
#: A plugin that leaves a trace where it is imported, and registers one of each kind.
PLUGIN = """
from pathlib import Path
Path({trace!r}).write_text("imported")
from lossbench.registry import register_backbone, register_dataset, register_loss

@register_loss("sly")
class Loss:
    def __init__(self, *, gamma: float = 1.0): ...

@register_dataset("sly")
class Dataset:
    def __init__(self, *, size: int = 1): ...

@register_backbone("sly")
class Backbone:
    def __init__(self, *, depth: int = 1): ...
"""
SUITE = """
datasets: [streets]
backbones: [{{name: fcn_timm, weights: none}}]
losses: [{loss}]
plugins: {plugins}
"""


class Touch:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def plugin(tmp_path: Path, trace: Path) -> str:
    return PLUGIN.format(trace=str(trace))


@pytest.fixture
def lossbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb in the folder of the test: exit code and all that it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))

    def call(*arguments: str) -> tuple[int, str]:
        code = run(arguments)
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


# --- suites ---


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.mkdir [TRACE]",
        "a: !!python/object/new:os.mkdir {args: [TRACE]}",
        "a: !!python/name:os.mkdir ''",
        "a: !!python/module:this ''",
        "? !!python/object/apply:os.mkdir [TRACE]\n: 1",
        "!!python/object/apply:os.mkdir [TRACE]",
    ],
)
def test_a_suite_makes_no_objects(text: str, trace: Path) -> None:
    with pytest.raises(ConfigError):
        parse_yaml(text.replace("TRACE", str(trace)), Path("suite.yaml"))
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["lists", "mappings", "merges"])
def test_aliases_that_multiply_are_refused_at_once(kind: str) -> None:
    level = {
        "lists": lambda n: f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]",
        "mappings": lambda n: f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}",
        "merges": lambda n: f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}",
    }[kind]
    text = "\n".join(["a0: &a0 {x: 1}", *(level(n) for n in range(1, 15))])
    with pytest.raises(ConfigError):
        parse_yaml(text, Path("suite.yaml"))


# --- plugins ---


def test_a_plugin_that_nobody_named_is_not_even_seen(tmp_path: Path, plugin: str, trace: Path, lossbench: Verb) -> None:
    """In the working directory, beside a suite, among records and run folders."""
    results = tmp_path / "results"
    path = put(Store(results), loss="sly", dataset="sly")
    for folder in (tmp_path, path.parent, results, results / "runs" / "x"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("my_loss.py", "sly.py", "conftest.py", "sitecustomize.py"):
            (folder / name).write_text(plugin)
    (tmp_path / "suite.yaml").write_text(SUITE.format(loss="sly", plugins="[]"))
    for arguments in (
        ("list", "losses"), ("leaderboard",), ("audit",), ("leaderboard", "--runs"),
        ("merge", "results", "--results", "other"),
    ):  # fmt: skip
        assert lossbench(*arguments)[0] == 0
    for verb in ("plan", "status", "run"):
        code, said = lossbench(verb, "suite.yaml")
        assert code == 2
        assert "unknown loss 'sly'" in said
    assert not trace.exists()


def test_verbs_that_read_list_a_named_plugin_without_importing_it(
    tmp_path: Path, plugin: str, trace: Path, lossbench: Verb
) -> None:
    (tmp_path / "my_loss.py").write_text(plugin)
    (tmp_path / "suite.yaml").write_text(SUITE.format(loss="sly", plugins="[./my_loss.py]"))
    for arguments in (("list", "losses", "--plugin", "my_loss.py"), ("plan", "suite.yaml"), ("status", "suite.yaml")):
        code, said = lossbench(*arguments)
        assert code == 0, said
        assert "sly" in said
    assert not trace.exists()
    all_registries([tmp_path / "my_loss.py"])["loss"].get("sly").load()
    assert trace.exists(), "the test would notice"


# --- records ---


def test_nothing_that_a_record_says_is_run(tmp_path: Path, plugin: str, trace: Path, lossbench: Verb) -> None:
    (tmp_path / "my_loss.py").write_text(plugin)
    theirs = Store(tmp_path / "theirs")
    quickstart(theirs)
    evil = {
        "command": f"mkdir {trace}", "suite": f"$(mkdir {trace})", "plugins": [str(tmp_path / "my_loss.py")],
        "code": {"loss": f"`mkdir {trace}`", "dataset": "my_loss", "backbone": "../my_loss"},
    }  # fmt: skip
    put(theirs, loss="sly", seed=5, label="my_loss.py", provenance=evil, notes=(f"__import__('os').mkdir('{trace}')",))
    put(theirs, loss="my_loss", dataset="../../../my_loss", seed=6, provenance=evil)
    identifier = theirs.read_all()[0][-1].record.id
    for arguments in (
        ("merge", "theirs"), ("leaderboard",), ("leaderboard", "--per-class"), ("audit",), ("diagnostics",),
        ("status", "quickstart"), ("plan", "quickstart"), ("show", "record", identifier),
    ):  # fmt: skip
        code, said = lossbench(*arguments)
        assert code == 0 or arguments == ("diagnostics",), said
    assert not trace.exists()
    outside = {path.name for path in tmp_path.iterdir()}
    assert outside <= {"my_loss.py", "theirs", "results", "cache"}


def test_a_run_folder_is_not_merged(tmp_path: Path) -> None:
    theirs = Store(tmp_path / "theirs")
    put(theirs)
    spec = theirs.root / "runs" / "0123456789abcdef" / "spec.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"results": "/", "plugins": ["/evil.py"]}))
    assert run(["merge", str(theirs.root), "--results", str(tmp_path / "ours")]) == 0
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["records"]


# --- checkpoints and weights ---


def malicious(path: Path, trace: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"model": Touch(trace), "step": 1}))
    elif kind == "torch":
        torch.save({"model": {"w": Touch(trace)}, "step": 1}, path)
    else:  # torch's own layout, made by hand
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Touch(trace), protocol=2))
            archive.writestr("archive/version", "3")


@pytest.mark.parametrize("kind", ["pickle", "torch", "zip"])
def test_a_malicious_checkpoint_is_not_executed(
    tmp_path: Path, trace: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    malicious(path, trace, kind)
    assert checkpoint.load(path) is None, "training starts anew"
    said = capsys.readouterr().out
    assert "passed over" in said
    assert "weights_only" not in said, "torch's advice is to load it in a way that runs what is in it"
    with pytest.raises(Exception, match="cannot be read"):
        checkpoint.read(path)
    assert not trace.exists()


def test_files_that_a_run_folder_names_are_not_run(
    tmp_path: Path, plugin: str, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights and specifications name the plugins of their suite: with foreign ones, anybody's."""
    (tmp_path / "evil.py").write_text(plugin)
    cell = make_cell()
    for kind in ("dataset", "backbone"):
        sly = replace(cell, **{kind: replace(cell.components[kind], name="sly", params={})})
        for place in ("weights", "spec"):
            spec = make_spec(sly, tmp_path / kind / place, tmp_path / "cache", plugins=(tmp_path / "evil.py",))
            if place == "weights":
                file = weights.save(spec.run_dir, torch.nn.Linear(1, 1), sly, ["a"], spec.plugins)
            else:
                file = spec.run_dir / "checkpoint.pt"
                torch.save({"model": {}, "step": 1}, file)
            assert run(["predict", str(file), "--out", str(tmp_path / "out")]) == 2
            said = " ".join(capsys.readouterr().err.split())
            assert f"{kind} 'sly'" in said
            assert "--plugin" in said
    assert not trace.exists()
