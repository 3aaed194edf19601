"""`lossbench submit`: what is in order goes, with its plugin, and says what it tells; the rest stays."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from lossbench.cli.main import run
from lossbench.records import Record
from lossbench.store import Store
from lossbench.verification import privacy
from lossbench.verification.privacy import leaves, redacted
from lossbench.verification.verify import verify_all
from tests.factories import make_record
from tests.verification.test_verify import NAMES, git, rewrite, sound

LOSS = """
from lossbench.registry import register_loss
from {name}_parts import number

raise SystemExit("imported")

@register_loss("{name}")
class Mine:
    def __init__(self, *, gamma: float = 1.0): ...
"""


@pytest.fixture
def world(tmp_path, monkeypatch) -> tuple[Store, Store]:
    """Ours with one new record, and a clone that has the other two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    ours, theirs = Store(tmp_path / "ours"), Store(tmp_path / "clone" / "results")
    for seed in range(3):
        sound(ours, seed=seed)
    for seed in range(2):
        sound(theirs, seed=seed)
    git(tmp_path / "clone", "init", "-q", "-b", "main")
    for key, value in (("user.name", "x"), ("user.email", "x@example.org")):
        git(tmp_path / "clone", "config", key, value)
    git(tmp_path / "clone", "add", ".")
    git(tmp_path / "clone", "commit", "-qm", "records")
    return ours, theirs


def submit(world: tuple[Store, Store], *more: str) -> int:
    return run(["submit", "--from", str(world[0].root), "--to", str(world[1].root), *more])


def test_new_records_are_committed_on_a_branch(world, capsys):
    ours, theirs = world
    (theirs.root / "notes.txt").write_text("not to be committed")
    assert submit(world, "--branch", "more") == 0
    said = capsys.readouterr().out
    assert "1 new records, all in order (2 are there)" in said
    assert "command: lossbench run quickstart" in said
    assert "git -C" in said
    assert "gh pr create" in said
    assert "| `ce` | 2 | 3 |" in Path("submission.md").read_text()
    clone = theirs.root.parent
    changed = subprocess.run(
        ["git", "diff", "--name-only", "main", "more"], cwd=clone, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [Path(name).suffix for name in changed] == [".json", ".npz"]
    assert verify_all(theirs.root).problems == []
    new = next(theirs.records_dir.rglob("ce-s2-*.json"))
    assert new.read_bytes() == next(ours.records_dir.rglob("ce-s2-*.json")).read_bytes()
    assert submit(world) == 2, "nothing is new"
    assert submit(world, "--branch", "main") == 2
    assert submit(world, "--branch", "--oops") == 2
    assert run(["submit", "--from", str(ours.root), "--to", str(ours.root)]) == 2


def test_nothing_goes_when_one_is_not_in_order(world, capsys):
    ours, theirs = world
    before = sorted(theirs.root.rglob("*"))
    rewrite(ours, sound(ours, seed=5), lambda data: data["costs"].update(train_s=-1))
    assert submit(world, "--branch", "more") == 1
    assert "train_s is -1" in " ".join(capsys.readouterr().out.split())
    assert sorted(theirs.root.rglob("*")) == before
    assert not Path("submission.md").exists()


def test_a_dry_run_writes_nothing(world):
    before = sorted(world[1].root.rglob("*"))
    assert submit(world, "--dry-run") == 0
    assert sorted(world[1].root.rglob("*")) == before
    assert not Path("submission.md").exists()


def test_a_loss_of_ones_own_goes_with_its_files(world, tmp_path, capsys):
    from lossbench.provenance import code_hash
    from lossbench.registry import all_registries

    plugin = tmp_path / "own" / "mine.py"
    plugin.parent.mkdir()
    plugin.write_text(LOSS.format(name="mine"))
    plugin.with_name("mine_parts.py").write_text("number = 1\n")
    digest = code_hash(all_registries([plugin])["loss"].get("mine"))

    def mine(data):
        data["cell"]["loss"] = {"name": "mine", "params": {"gamma": 1.0}}
        data["labels"]["loss"] = "mine"
        data["provenance"]["code"]["loss"] = digest

    ours, theirs = world
    rewrite(ours, sound(ours, seed=8), mine)
    assert submit(world) == 1
    assert "give its file with --plugin" in " ".join(capsys.readouterr().out.split())
    text = plugin.read_text()
    plugin.write_text(text + "# another\n")
    assert submit(world, "--plugin", str(plugin)) == 1, "not the code that ran"
    plugin.write_text(text)
    assert submit(world, "--plugin", str(plugin)) == 0
    assert sorted(path.name for path in (theirs.root / "plugins").iterdir()) == ["mine.py", "mine_parts.py"]
    assert verify_all(theirs.root).problems == []


def test_redacted_records_say_less_and_stay_what_they_are(world, monkeypatch, capsys):
    ours, theirs = world
    monkeypatch.setattr(privacy, "_names", lambda: ["alice", "tower7"])
    path = next(ours.records_dir.rglob("ce-s2-*.json"))

    def betray(data):
        data["provenance"]["command"] = "lossbench run suites/x.yaml --results=/home/alice/out --plugin ~/my/loss.py"
        data["provenance"]["os"] = "Linux 6.1 tower7"
        data["notes"] = [r"resumed in C:\Users\alice\runs"]

    rewrite(ours, path, betray)
    assert submit(world, "--dry-run") == 0
    said = " ".join(capsys.readouterr().out.split())
    for private in ("/home/alice/out", "~/my/loss.py", "tower7", r"C:\Users\alice\runs"):
        assert private in said.partition("private?")[2]
    assert submit(world, "--redact") == 0
    record = Record.from_json(next(theirs.records_dir.rglob("ce-s2-*.json")).read_bytes())
    assert record.id in path.name
    assert record.provenance["command"] == "lossbench run suites/x.yaml --results=out --plugin loss.py"
    assert (record.provenance["os"], record.notes) == ("Linux 6.1 -", ["resumed in runs"])
    assert not leaves([record])["private"]


def test_redacting_changes_nothing_else():
    _, record, _ = make_record()
    assert redacted(record).to_json() == record.to_json()
    assert json.loads(record.to_json())["id"] == redacted(record).id
    assert NAMES["loss"] == redacted(record).cell["loss"]["name"]
