"""provenance.py: plain JSON of what ran; code hashes that notice what matters and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

import lossbench
from lossbench import provenance
from lossbench.errors import UnknownNameError
from lossbench.provenance import code_hash, collect, stale_reasons
from lossbench.registry import KINDS, Registry
from tests.factories import make_record

PLUGIN = """
from lossbench.registry import register_{kind}
{extra}
@register_{kind}("{name}")
def {name}():
    '''A plugin.'''
"""


def plugin_file(folder, kind, name, extra=""):
    path = folder / f"{name}_file.py"
    path.write_text(PLUGIN.format(kind=kind, name=name, extra=extra))
    return path


@pytest.fixture
def files(tmp_path):
    return {
        "loss": plugin_file(tmp_path, "loss", "my_loss", "from _helper import f"),
        "backbone": plugin_file(tmp_path, "backbone", "my_net"),
        "dataset": plugin_file(tmp_path, "dataset", "my_data"),
        "helper": _write(tmp_path / "_helper.py", "import deeper\nf = 1\n"),
        "deeper": _write(tmp_path / "deeper.py", "x = 1\n"),
    }


def _write(path, text):
    path.write_text(text)
    return path


def registries(files):
    return {kind: Registry(kind, [files[kind]]) for kind in KINDS}


def loss_hash(files):
    return code_hash(registries(files)["loss"].get("my_loss"))


def make(files, **options):
    cell, record, _ = make_record(loss="my_loss", backbone="my_net", dataset="my_data")
    collected = collect(
        cell,
        registries(files),
        **{
            "data_fingerprint": {"train": "aa", "val": "bb"},
            "threads": 2,
            "device": "cpu",
            "command": ["lossbench", "run", "my suite.yaml"],
            "suite": "mine",
            **options,
        },
    )
    record.provenance = collected
    return record


def test_what_is_collected(files):
    begin = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    data = make(files, started=begin).provenance
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["lossbench"] == lossbench.__version__
    assert data["protocol"] == lossbench.PROTOCOL
    assert set(data["code"]) == set(KINDS)
    assert {"python", "torch", "torchvision", "timm", "segmentation-models-pytorch", "numpy"} <= set(data["packages"])
    assert data["packages"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert data["hardware"]["cpu"]
    assert data["hardware"]["cores"] >= 1
    assert (data["hardware"]["threads"], data["hardware"]["device"], data["hardware"]["gpu"]) == (2, "cpu", None)
    assert data["command"] == "lossbench run 'my suite.yaml'"
    assert data["data"] == {"train": "aa", "val": "bb"}
    assert data["started"] == "2026-01-01T10:00:00+00:00"
    finished = datetime.fromisoformat(data["finished"])
    assert abs(datetime.now(UTC) - finished) < timedelta(minutes=1)


def test_no_name_of_the_machine_or_its_user_is_recorded(files):
    text = json.dumps(make(files).provenance)
    host = os.uname().nodename
    assert f'"{host}"' not in text
    assert str(files["loss"].parent) not in text


def test_a_plugin_that_is_not_there_is_an_error(files):
    cell, *_ = make_record(loss="no_such_loss", backbone="my_net", dataset="my_data")
    with pytest.raises(UnknownNameError, match="no_such_loss"):
        collect(cell, registries(files), data_fingerprint={}, threads=1, device="cpu", command="", suite=None)


def test_a_fresh_record_is_not_stale(files):
    assert stale_reasons(make(files), registries(files)) == []


def test_a_changed_loss_is_named_with_both_hashes(files):
    record = make(files)
    before = loss_hash(files)
    files["loss"].write_text(files["loss"].read_text() + "# changed\n")
    (reason,) = stale_reasons(record, registries(files))
    assert reason == f"loss 'my_loss' changed since ({before[:7]} -> {loss_hash(files)[:7]})"


@pytest.mark.parametrize("name", ["helper", "deeper"])
def test_what_the_plugin_builds_on_counts(files, name):
    before = loss_hash(files)
    files[name].write_text("y = 2\n" if name == "deeper" else "import deeper\nf = 2\n")
    assert loss_hash(files) != before


def test_a_new_neighbour_does_not_count(files):
    before = loss_hash(files)
    plugin_file(files["loss"].parent, "loss", "another_loss")
    _write(files["loss"].parent / "_other_helper.py", "z = 1\n")
    assert loss_hash(files) == before


def test_line_endings_do_not_count(files):
    before = loss_hash(files)
    files["helper"].write_bytes(files["helper"].read_bytes().replace(b"\n", b"\r\n"))
    assert loss_hash(files) == before


def test_imports_between_plugins_of_the_package_are_followed(tmp_path):
    file = plugin_file(tmp_path, "dataset", "derived", "from lossbench.datasets import base")
    found = {path.name for path in provenance._closure(file)}
    assert found == {"derived_file.py", "base.py"}
    nested = _write(tmp_path / "nested.py", "def f():\n    from lossbench.datasets.base import SegmentationDataset\n")
    assert {path.name for path in provenance._closure(nested)} == {"nested.py", "base.py"}


def test_relative_imports_are_followed(tmp_path):
    (tmp_path / "pkg" / "sub").mkdir(parents=True)
    main = _write(tmp_path / "pkg" / "sub" / "main.py", "from . import near\nfrom ..far import x\n")
    near = _write(tmp_path / "pkg" / "sub" / "near.py", "from .main import y\n")  # a cycle ends
    far = _write(tmp_path / "pkg" / "far.py", "x = 1\n")
    assert provenance._closure(main) == {main, near, far}


def test_a_package_that_imports_from_itself_by_its_full_name(tmp_path):
    (tmp_path / "theirs").mkdir()
    main = _write(tmp_path / "theirs" / "main.py", "from theirs._core import x\n")
    core = _write(tmp_path / "theirs" / "_core.py", "from theirs._deep import x\n")
    deep = _write(tmp_path / "theirs" / "_deep.py", "x = 1\n")
    _write(tmp_path / "theirs" / "other.py", "x = 2\n")
    assert provenance._closure(main) == {main, core, deep}


def test_helpers_of_the_mission():
    def names(loss):
        return {path.name for path in provenance._closure(Registry("loss").get(loss).file)}

    kernel = {"_fused.py", "_blocks.py", "_pixel.py"}
    assert names("cdfl") == {"cdfl.py", "_dropout.py", "_moments.py", "_narrow.py", "_diagnose.py", *kernel}
    assert names("focal") == {"focal.py", *kernel}


def test_every_registered_plugin_has_a_hash():
    for kind in KINDS:
        for plugin in Registry(kind):
            assert len(code_hash(plugin)) == 12


def test_another_protocol_and_a_missing_plugin_are_reasons(files, monkeypatch):
    record = make(files)
    monkeypatch.setattr(lossbench, "PROTOCOL", lossbench.PROTOCOL + 1)
    bare = {**registries(files), "loss": Registry("loss")}
    protocol, missing = stale_reasons(record, bare)
    assert protocol == f"engine PROTOCOL changed since ({lossbench.PROTOCOL - 1} -> {lossbench.PROTOCOL})"
    assert missing == "loss 'my_loss' is not known here: give its file with --plugin"


def test_a_record_that_does_not_say_what_ran_is_stale(files):
    record = make(files)
    record.provenance = {}
    reasons = stale_reasons(record, registries(files))
    assert len(reasons) == 4
    assert all("unknown ->" in reason for reason in reasons)


def test_staleness_needs_no_torch(tmp_path, files):
    (tmp_path / "record.json").write_text(make(files).to_json())
    code = (
        "import sys; from pathlib import Path\n"
        "from lossbench.records import Record; from lossbench.registry import KINDS, Registry\n"
        "from lossbench.provenance import stale_reasons\n"
        "files = [Path(p) for p in sys.argv[2:]]\n"
        "record = Record.from_json(Path(sys.argv[1]).read_bytes())\n"
        "reasons = stale_reasons(record, {kind: Registry(kind, files) for kind in KINDS})\n"
        "assert reasons == [], reasons\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    plugins = [str(files[kind]) for kind in KINDS]
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "record.json"), *plugins], check=True)


def test_git_state(tmp_path):
    def git(*args):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *args], check=True, capture_output=True)

    git("init")
    init = _write(tmp_path / "__init__.py", "")
    assert provenance.git_state(tmp_path) is None  # inside a repository, but not of it
    git("add", ".")
    git("commit", "-m", "x")
    state = provenance.git_state(tmp_path)
    assert state is not None
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    init.write_text("changed = 1\n")
    assert provenance.git_state(tmp_path) == {**state, "dirty": True}


def test_a_command_that_is_missing_fails_or_hangs_gives_none(monkeypatch):
    assert provenance._output(["no-such-program-anywhere"]) is None
    assert provenance._output([sys.executable, "-c", "raise SystemExit(3)"]) is None
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: run(*a, **{**k, "timeout": 0.05}))
    assert provenance._output([sys.executable, "-c", "import time; time.sleep(9)"]) is None
