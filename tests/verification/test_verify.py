"""Every rule of `lossbench verify` finds what it is for, and nothing else; and nothing in a file makes it fail."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossbench.cells import identity_hash
from lossbench.cli.main import run
from lossbench.errors import ConfigError
from lossbench.provenance import code_hash
from lossbench.registry import all_registries
from lossbench.store import Store
from lossbench.verification import one
from lossbench.verification.changes import Changes, changes_since
from lossbench.verification.problems import RULES
from lossbench.verification.verify import Report, verify_all, verify_changes, verify_new
from tests.factories import put, quickstart

RESULTS = Path(__file__).parents[2] / "results"
#: The plugins' code as it is now, and parameters as it spells them: nothing is to be said of it.
REGISTRIES = all_registries()
PARTS: dict[Any, dict[str, Any]] = {
    "dataset": {"height": 96, "width": 192, "train_images": 300, "val_images": 100, "imbalance": 100.0,
                "label_noise": 0.0, "seed": 0, "tail_size": 1.0},
    "backbone": {"channels": 64, "dropout": 0.1, "encoder": "test_resnet", "head_stride": 8, "output_stride": 32,
                 "weights": "none"},
    "loss": {"label_smoothing": 0.0},
}  # fmt: skip
NAMES = {"dataset": "streets", "backbone": "fcn_timm", "loss": "ce"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three sound records of `ce` by the code of now."""
    store = Store(tmp_path / "results")
    for seed in range(3):
        sound(store, seed=seed)
    return store


def sound(store: Store, **options: Any) -> Path:
    """A record in which nothing is wrong."""
    path = put(store, **options)

    def finish(data: dict[str, Any]) -> None:
        for kind in NAMES:
            if data["cell"][kind]["name"] == NAMES[kind]:
                data["cell"][kind]["params"] = PARTS[kind]
                data["labels"][kind] = NAMES[kind]
                plugin = REGISTRIES[kind].get(NAMES[kind])  # type: ignore[index]
                data["provenance"]["code"][kind] = code_hash(plugin, PARTS[kind])

    return rewrite(store, path, finish)


def rewrite(store: Store, path: Path, change: Callable[[dict[str, Any]], Any], *, move: bool = True) -> Path:
    """Change a record by hand; its id and its place follow."""
    data = json.loads(path.read_text())
    change(data)
    data["id"] = identity_hash(data["cell"])
    path.write_text(json.dumps(data))
    names = [data["cell"][kind]["name"] for kind in ("dataset", "backbone", "loss")]
    if not move or not all(isinstance(name, str) for name in names):
        return path
    place = store.records_dir / names[0] / names[1] / f"{names[2]}-s{data['cell']['seed']}-{data['id']}.json"
    for suffix in (".json", ".npz"):
        path.with_suffix(suffix).replace(place.with_suffix(suffix))
    return place


def rules(report: Report) -> set[tuple[str, bool]]:
    return {(problem.rule, problem.warning) for problem in report.problems}


def test_sound_records_pass(store, capsys):
    report = verify_all(store.root)
    assert (report.problems, report.checked, report.older) == ([], 3, 0)
    assert run(["verify", str(store.root), "--strict", "--no-index"]) == 0
    assert "3 records: all in order" in " ".join(capsys.readouterr().out.split())


def cell(**parts: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["cell"].update(parts)


#: What is done to a record, and the rule that finds it.
CHANGES: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("schema", lambda d: d.update(schema=99)),
    ("schema", lambda d: d.pop("curve")),
    ("schema", lambda d: d.update(comment="look at me")),
    ("cell", lambda d: d["cell"].update(seed=-1)),
    ("cell", lambda d: d["cell"].update(seed=2**40)),
    ("cell", lambda d: d["cell"].update(extra="a second id")),
    ("cell", lambda d: d["cell"]["loss"].update(version=2)),
    ("cell", lambda d: d["cell"]["protocol"].update(compile=False)),  # a default that is left out
    ("cell", lambda d: d["cell"]["loss"]["params"].update(label_smoothing=0)),  # for 0.0
    ("cell", lambda d: d["cell"]["loss"]["params"].update(gamma=2.0)),
    ("cell", lambda d: d["cell"]["loss"]["params"].clear()),
    ("labels", lambda d: d["labels"].update(loss="cdfl")),
    ("labels", lambda d: d["labels"].update(loss="ce(label_smoothing=0.1)")),
    ("labels", lambda d: d["labels"].update(backbone="fcn_timm(best)")),
    ("values", lambda d: d["confusion"][0].__setitem__(0, 2**60)),
    ("schema", lambda d: d["confusion"][0].__setitem__(0, -1)),
    ("values", lambda d: d["train_pixels"].__setitem__(0, -5)),
    ("values", lambda d: d["train_pixels"].__setitem__(0, 1.5)),
    ("values", lambda d: d["class_names"].__setitem__(1, d["class_names"][0])),
    ("values", lambda d: d.update(absent_class_rule="zero")),
    ("values", lambda d: d["costs"].update(ms_per_step=0)),
    ("values", lambda d: d["costs"].update(train_s=-3.0)),
    ("values", lambda d: d["costs"].update(eval_s="fast")),
    ("values", lambda d: d["costs"].update(ms={"data": -1})),
    ("values", lambda d: d["costs"].update(extra_forwards=0.5)),
    ("values", lambda d: d["curve"]["loss"].pop()),
    ("values", lambda d: d["curve"]["step"].__setitem__(-1, 10**6)),
    ("values", lambda d: d["curve"]["step"].reverse()),
    ("values", lambda d: d["curve"]["loss"].__setitem__(0, None)),
    ("values", lambda d: d["curve"].update(score=[1])),
    ("values", lambda d: d["curve"].update(eval_step=[400], eval_miou=[61.3])),
    ("figures", lambda d: d["curve"].update(eval_step=[200, 400], eval_miou=[0.5, 0.999])),
    ("values", lambda d: d["diagnostics"].update(u=["x"])),
    ("values", lambda d: d["provenance"].update(finished=(datetime.now(UTC) + timedelta(days=3)).isoformat())),
    ("values", lambda d: d["provenance"].update(started="2026-01-02T03:04:06+00:00", finished="2026-01-02T03:04:05Z")),
    ("values", lambda d: d["provenance"].update(finished="yesterday")),
    ("values", lambda d: d["provenance"].update(protocol=None)),
    ("values", lambda d: d["provenance"].update(protocol=10**6)),
    ("values", lambda d: d["provenance"].update(code={})),
    ("counts", lambda d: d["confusion"][0].reverse()),
]


@pytest.mark.parametrize(("rule", "change"), CHANGES, ids=range(len(CHANGES)))
def test_what_cannot_be_is_found(store, rule, change):
    path = sound(store, loss="ce", seed=7)
    rewrite(store, path, change)
    assert (rule, False) in rules(verify_all(store.root))


def test_numbers_that_json_does_not_know_and_members_twice(store):
    path = sound(store, seed=7)
    text = path.read_text()
    for wrong in (
        text.replace('"eval_s": 4.2', '"eval_s": NaN'),
        text.replace('{"schema": 1', '{"schema": 1, "id": 1'),
    ):
        assert wrong != text
        path.write_text(wrong)
        assert rules(verify_all(store.root)) == {("schema", False)}


def test_an_id_that_is_not_its_cells_and_a_wrong_place(store):
    path = sound(store, seed=7)
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 8'))
    assert rules(verify_all(store.root)) == {("id", False)}
    path.write_text(path.read_text().replace('"seed": 8', '"seed": 7'))
    for suffix in (".json", ".npz"):
        path.with_suffix(suffix).replace(path.with_name("ce-s8-0123456789abcdef").with_suffix(suffix))
    assert rules(verify_all(store.root)) == {("place", False)}


def npz(path: Path, **members: Any) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(value), allow_pickle=True)
            archive.writestr(f"{name}.npy", content.getvalue())


def test_sidecars(store, monkeypatch):
    path = sound(store, seed=7).with_suffix(".npz")
    whole = path.read_bytes()
    with np.load(path) as archive:
        counts, names = archive["counts"], archive["names"]
    monkeypatch.setattr(one, "MOST_SIDECAR", 10**5)
    swapped = counts.copy()
    swapped[0, 0, 1] += 1
    swapped[1, 0, 1] -= 1
    for members in (
        {"counts": swapped, "names": names},
        {"counts": counts, "names": np.array([{}] * 4, dtype=object)},
        {"counts": counts, "names": [names[0]] * 4},
        {"counts": counts, "names": ["\x1b[2J", *names[1:]]},
        {"counts": counts, "names": names, "payload": np.zeros(9)},
        {"counts": np.zeros((4, 10**7), np.int8), "names": names},
    ):
        npz(path, **members)
        assert rules(verify_all(store.root)) == {("counts", False)}, members.keys()
    for content in (b"", whole[:200], whole + b"x" * 10**5):
        path.write_bytes(content)
        assert rules(verify_all(store.root)) == {("counts", False)}
    path.unlink()
    assert rules(verify_all(store.root)) == {("counts", False)}
    os.mkfifo(path)
    assert rules(verify_all(store.root)) == {("counts", False), ("file", False)}


def test_what_should_not_be_there(store, tmp_path, monkeypatch):
    monkeypatch.setattr(one, "MOST_JSON", 10**5)
    folder = next(store.records_dir.rglob("*.json")).parent
    (folder / "README.md").write_text("x")
    (folder / ".half.tmp").write_text("x")
    (folder / "ce-s9-0123456789abcdef.npz").write_text("x")
    (folder / "link.json").symlink_to(tmp_path / "nowhere")
    (store.records_dir / "loop").symlink_to(store.records_dir)
    (folder / "deeper").mkdir()
    with (folder / "huge.json").open("wb") as huge:
        huge.truncate(2**40)
    os.mkfifo(folder / "pipe.json")
    report = verify_all(store.root)
    assert {problem.rule for problem in report.problems} == {"file"}
    assert len(report.problems) == 8
    assert [problem.path for problem in report.problems if problem.warning] == ["records/streets/fcn_timm/.half.tmp"]


def test_the_same_cell_twice(store):
    path = sound(store, seed=7)
    for suffix in (".json", ".npz"):
        path.with_name("copy").with_suffix(suffix).write_bytes(path.with_suffix(suffix).read_bytes())
    assert rules(verify_all(store.root)) == {("place", False), ("twice", False)}


def copy_of(store: Store, path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    for suffix in (".json", ".npz"):
        path.with_name("copy").with_suffix(suffix).write_bytes(path.with_suffix(suffix).read_bytes())
    return rewrite(store, path.with_name("copy.json"), change)


def control(batchnorm: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        params = {"passes": 5, "random_stream": "kept", "batchnorm": batchnorm}
        data["cell"]["loss"] = {"name": "ce_control", "params": params}
        data["labels"]["loss"] = "ce_control"
        data["provenance"]["code"]["loss"] = code_hash(REGISTRIES["loss"].get("ce_control"), params)

    return change


def searched(data: dict[str, Any], trials: int = 2) -> dict[str, Any]:
    """The description of a search over the learning rate, from the cell's own."""
    lr = data["cell"]["protocol"]["lr"]
    space = {"lr": {"low": lr / 10, "high": lr * 10, "log": True}}
    common = {"holdout": 0.2, "holdout_seed": 0, "sampler": "halton", "seed": 0, "seeds": [1000]}
    return {"trials": trials, **common, "search": space, "loss": {}, "from": {"lr": lr}}


@pytest.mark.parametrize(
    ("change", "copied"),
    [
        (lambda d: d["cell"].update(seed=8), True),
        (lambda d: d["cell"]["protocol"].update(lr=0.5), True),
        (lambda d: d["cell"]["protocol"].update(eval_every=100), False),
        (lambda d: d["cell"]["protocol"].update(tuned=searched(d)), False),
        (lambda d: d["cell"]["protocol"].update(tuned=searched(d), lr=0.5), True),
        (control("kept"), False),
        (control("updated"), True),
    ],
)
def test_a_copied_result_is_found_but_not_what_is_equal_by_construction(store, change, copied):
    copy_of(store, sound(store, seed=7), change)
    assert rules(verify_all(store.root)) == ({("copied", False)} if copied else set())


def test_two_searches_that_chose_the_same_setting_are_no_copies(store):
    path = sound(store, seed=7)
    for trials in (2, 3):
        for suffix in (".json", ".npz"):
            path.with_name("copy").with_suffix(suffix).write_bytes(path.with_suffix(suffix).read_bytes())
        rewrite(
            store,
            path.with_name("copy.json"),
            lambda d, trials=trials: d["cell"]["protocol"].update(lr=0.5, tuned=searched(d, trials)),
        )
    for suffix in (".json", ".npz"):
        path.with_suffix(suffix).unlink()
    assert rules(verify_all(store.root)) == set()


def test_runs_that_collapsed_alike_are_no_copies(store):
    for seed in (7, 8):
        path = sound(store, seed=seed)
        data = json.loads(path.read_text())
        truth = np.array(data["confusion"]).sum(axis=1).tolist()
        data["confusion"] = [[row] + [0] * (len(truth) - 1) for row in truth]
        path.write_text(json.dumps(data))
        with np.load(path.with_suffix(".npz")) as archive:
            counts, names = archive["counts"], archive["names"]
        true = counts[..., 0] + counts[..., 2]
        counts = np.stack([np.zeros_like(true), np.zeros_like(true), true], axis=-1)
        counts[:, 0] = np.stack([true[:, 0], true[:, 1:].sum(axis=1), 0 * true[:, 0]], axis=-1)
        npz(path.with_suffix(".npz"), counts=counts.astype(np.int32), names=names)
    assert verify_all(store.root).problems == []


def test_other_pixels_other_training_data_other_images(store):
    shares = (40_001, 25_000, 15_000, 10_000, 5_000, 1_200, 600, 80)
    other = sound(store, seed=7, shares=shares)
    problems = verify_all(store.root).problems
    assert {problem.rule for problem in problems} == {"split"}
    assert all(problem.path.endswith(other.name) for problem in problems)
    assert any("not 160000" in problem.message for problem in problems)
    for suffix in (".json", ".npz"):
        other.with_suffix(suffix).unlink()
    sidecar = sound(store, seed=8).with_suffix(".npz")
    with np.load(sidecar) as archive:
        counts, names = archive["counts"], archive["names"]
    npz(sidecar, counts=counts[::-1], names=names[::-1])  # their order is no matter
    assert verify_all(store.root).problems == []
    npz(sidecar, counts=counts, names=[f"other_{name}" for name in names])
    assert rules(verify_all(store.root)) == {("images", False)}


def test_more_pixels_than_there_are(store):
    path = sound(store, seed=7)
    small = {"val_images": 1, "height": 10, "width": 10}
    rewrite(store, path, lambda d: d["cell"]["dataset"]["params"].update(small))
    assert ("values", False) in rules(verify_all(store.root))


def test_code_that_is_not_known(store, tmp_path):
    rewrite(store, sound(store, seed=7), lambda d: d["provenance"]["code"].update(loss="0" * 12))
    report = verify_all(store.root)
    assert rules(report) == {("code", True)}
    assert run(["verify", str(store.root), "--no-index"]) == 0
    assert run(["verify", str(store.root), "--no-index", "--strict"]) == 1
    assert verify_all(RESULTS).older == 0


def test_code_of_earlier_versions_and_of_plugins(store, tmp_path):
    from lossbench.verification.code import history

    now = code_hash(REGISTRIES["dataset"].get("streets"))
    old = next(item for item in history()["dataset"]["streets"] if item != now)
    path = sound(store, seed=7)
    rewrite(store, path, lambda d: d["provenance"]["code"].update(dataset=old))
    report = verify_all(store.root)
    assert (report.problems, report.older) == ([], 1)
    plugin = tmp_path / "my_loss.py"
    plugin.write_text(
        "raise SystemExit('imported')\nfrom lossbench.registry import register_loss\n"
        "@register_loss('mine')\nclass Mine:\n    def __init__(self, *, gamma: float = 1.0): ...\n"
    )
    digest = code_hash(all_registries([plugin])["loss"].get("mine"))

    def mine(data: dict[str, Any]) -> None:
        data["cell"]["loss"] = {"name": "mine", "params": {"gamma": 1.0}}
        data["labels"]["loss"] = "mine"
        data["provenance"]["code"]["loss"] = digest

    rewrite(store, sound(store, seed=8), mine)
    assert rules(verify_all(store.root)) == {("code", True)}
    assert verify_all(store.root, [plugin]).problems == []
    (store.root / "plugins").mkdir()
    (store.root / "plugins" / "my_loss.py").write_bytes(plugin.read_bytes())
    assert verify_all(store.root).problems == []
    (store.root / "plugins" / "other.py").write_bytes(plugin.read_bytes())
    (store.root / "plugins" / "broken.py").write_text("(" * 5000)
    (store.root / "plugins" / "weights.bin").write_text("x")
    assert [problem.path for problem in verify_all(store.root).problems] == [
        "plugins/weights.bin",
        "plugins/broken.py",
        "plugins/other.py",
    ]


# --- what is new ---


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_only_what_a_branch_changes(store, tmp_path, capsys):
    quickstart(store)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "records")
    git(tmp_path, "switch", "-qc", "more")
    added = sound(store, seed=7)
    assert len(changes_since(store.root, "main").added) == 2
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "more")
    report = verify_changes(store.root, changes_since(store.root, "main"))
    assert (report.problems, report.checked, report.total) == ([], 1, 22)
    copy_of(store, added, lambda d: d["cell"].update(seed=9))
    assert rules(verify_changes(store.root, changes_since(store.root, "main"))) == {("copied", False)}
    git(tmp_path, "clean", "-qfd")
    old = next(store.records_dir.rglob("ce-s1-*.npz"))
    old.unlink()
    report = verify_changes(store.root, changes_since(store.root, "main"))
    assert {("change", False), ("counts", False)} <= rules(report)
    git(tmp_path, "checkout", "-q", "--", ".")
    (store.root / "plugins").mkdir()
    (store.root / "plugins" / "x.bin").write_text("x")
    assert rules(verify_changes(store.root, changes_since(store.root, "main"))) == {("file", False)}
    (store.root / "plugins" / "x.bin").unlink()
    old.with_suffix(".json").write_text(
        old.with_suffix(".json").read_text().replace('"ms_per_step": 100', '"ms_per_step": 10')
    )
    arguments = ["verify", str(store.root), "--changed-since", "main", "--no-index"]
    assert run([*arguments, "--summary", str(tmp_path / "table.md")]) == 1
    assert run([*arguments, "--allow-changes"]) == 0
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["rules"]["change"]["problems"] == 1
    table = (tmp_path / "table.md").read_text()
    assert "Not in order" in table
    assert "| `ce` | 7 |" in table
    for ref in ("nonsense", "--output=x"):
        assert run(["verify", str(store.root), f"--changed-since={ref}"]) == 2
    assert not (tmp_path / "x").exists()


def test_single_files_and_other_images_than_those_before(store):
    sidecar = sound(store, seed=8).with_suffix(".npz")
    with np.load(sidecar) as archive:
        counts, names = archive["counts"], archive["names"]
    npz(sidecar, counts=counts, names=[f"other_{name}" for name in names])
    assert run(["verify", str(store.root), "--file", str(sidecar.with_suffix(".json")), "--no-index"]) == 1
    report = verify_changes(store.root, Changes((f"records/{sidecar.relative_to(store.records_dir)}",)))
    assert rules(report) == {("images", False)}
    with pytest.raises(ConfigError):
        verify_all(store.root / "records")
    for file in ("/etc/passwd", str(store.records_dir / "nothing.json")):
        assert run(["verify", str(store.root), "--file", file]) == 2


def test_new_records_beside_others(store, tmp_path):
    staged = Store(tmp_path / "staged")
    copied = sound(staged, seed=7)
    assert verify_new(staged.root, store.root).problems == []
    source = next(store.records_dir.rglob("ce-s1-*.json"))
    for suffix in (".json", ".npz"):
        copied.with_name("copy").with_suffix(suffix).write_bytes(source.with_suffix(suffix).read_bytes())
    rewrite(staged, copied.with_name("copy.json"), lambda d: d["cell"].update(seed=77))
    assert rules(verify_new(staged.root, store.root)) == {("copied", False)}


# --- the memory of what was in order ---


def test_what_was_in_order_is_not_read_again_until_it_changes(store, tmp_path, monkeypatch):
    from lossbench.verification import stamps

    monkeypatch.setattr(stamps, "TICK_NS", -(10**18))
    cache = tmp_path / "cache"
    assert verify_all(store.root, cache=cache).read == 3
    assert verify_all(store.root, cache=cache).read == 0
    path = sound(store, seed=7)
    assert verify_all(store.root, cache=cache).read == 1
    path.write_text(path.read_text().replace('"eval_s": 4.2', '"eval_s": -4.2'))
    for _ in range(2):  # what is wrong is said again
        report = verify_all(store.root, cache=cache)
        assert (report.read, rules(report)) == (1, {("values", False)})
    path.with_suffix(".npz").write_bytes(b"")
    assert verify_all(store.root, cache=cache).read == 1
    copy_of(store, next(store.records_dir.rglob("ce-s1-*.json")), lambda d: d["cell"].update(seed=9))
    assert ("copied", False) in rules(verify_all(store.root, cache=cache))
    for file in (cache / "leaderboard").glob("*.verified.index"):
        file.write_bytes(file.read_bytes()[:-50])
    assert verify_all(store.root, cache=cache).read == 5


def test_what_was_just_written_is_read_again(store, tmp_path):
    verify_all(store.root, cache=tmp_path / "cache")
    assert verify_all(store.root, cache=tmp_path / "cache").read == 3


def test_in_processes_it_says_the_same(store, monkeypatch):
    from lossbench.verification import verify

    for seed in range(3, 9):
        sound(store, seed=seed)
    rewrite(store, next(store.records_dir.rglob("ce-s4-*.json")), lambda d: d["costs"].update(train_s=-1))
    alone = verify_all(store.root)
    monkeypatch.setattr(verify, "_SHARE", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert verify_all(store.root) == alone
    assert len(alone.problems) == 1


# --- hostile input ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


class Real(NamedTuple):
    """A copy of a real record, and where it comes from."""

    store: Store
    path: Path
    source: Path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    store = Store(tmp_path_factory.mktemp("real"))
    source = next(RESULTS.rglob("cdfl-s0-*.json"))
    path = store.root / source.relative_to(RESULTS)
    path.parent.mkdir(parents=True)
    for suffix in (".json", ".npz"):
        path.with_suffix(suffix).write_bytes(source.with_suffix(suffix).read_bytes())
    return Real(store, path, source)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data())
def test_any_json_is_judged(real, data):
    store, path, source = real
    record = json.loads(source.read_text())
    place = data.draw(st.sampled_from(places(record)))
    value = data.draw(JSON)
    if place:
        at = record
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = value
    else:
        record = value
    if isinstance(record, dict) and data.draw(st.booleans()):  # the id follows, or little else is reached
        with contextlib.suppress(Exception):
            record["id"] = identity_hash(record["cell"])
    path.write_bytes(json.dumps(record).encode("utf-8", "surrogatepass"))
    path.with_suffix(".npz").write_bytes(source.with_suffix(".npz").read_bytes())
    report = verify_all(store.root)
    assert all(problem.rule in RULES for problem in report.problems)
    assert run(["verify", str(store.root), "--no-index"]) == int(bool(report.errors))


@FUZZ
@given(data=st.data())
def test_any_bytes_are_judged(real, data):
    store, path, source = real
    contents = {suffix: bytearray(source.with_suffix(suffix).read_bytes()) for suffix in (".json", ".npz")}
    suffix = data.draw(st.sampled_from(sorted(contents)))
    content = contents[suffix]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    for kind, changed in contents.items():
        path.with_suffix(kind).write_bytes(bytes(changed))
    verify_all(store.root)
    assert run(["verify", str(store.root), "--no-index", "--json"]) in (0, 1)
