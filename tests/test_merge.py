"""merge.py and foreign.py: every record once, nothing overwritten, and nothing done that a source might want."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossbench.sidecar
from lossbench import files, foreign
from lossbench import merge as merging
from lossbench.cells import identity_hash
from lossbench.cli.main import run
from lossbench.errors import ConfigError, SetupError
from lossbench.foreign import Skipped
from lossbench.merge import Merged, merge
from lossbench.store import Store
from tests.factories import make_cell, make_record, put


@pytest.fixture
def world(tmp_path: Path) -> tuple[Store, Store]:
    return Store(tmp_path / "ours"), Store(tmp_path / "theirs")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def numbers(merged: Merged) -> tuple[int, int, int, int]:
    return merged.new, merged.same, len(merged.different), len(merged.skipped)


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a record by hand; its id follows."""
    data = json.loads(path.read_text())
    change(data)
    data["id"] = identity_hash(data["cell"])
    path.write_text(json.dumps(data))


def test_what_is_new_is_copied_byte_for_byte_and_once(world: tuple[Store, Store]) -> None:
    ours, theirs = world
    for seed in range(3):
        put(theirs, seed=seed)
    put(ours, seed=2)
    (merged,) = merge(ours, [theirs.root])
    assert numbers(merged) == (2, 1, 0, 0)
    assert tree(ours.root) == tree(theirs.root)
    (again,) = merge(ours, [theirs.root])
    assert numbers(again) == (0, 3, 0, 0)
    assert tree(ours.root) == tree(theirs.root)


def test_both_ways_is_the_same_everywhere(world: tuple[Store, Store], tmp_path: Path) -> None:
    ours, theirs = world
    for seed in range(4):
        put((ours, theirs)[seed % 2], seed=seed)
        put((ours, theirs)[seed % 2], loss="focal", seed=seed // 2, ms_per_step=100 + seed)  # the same, made twice
    merge(ours, [theirs.root])
    merge(theirs, [ours.root])
    third = Store(tmp_path / "third")
    merge(third, [ours.root, theirs.root])
    for store in (ours, theirs, third):
        found, warnings = store.read_all()
        assert (len(found), warnings) == (6, [])
        assert all(stored.per_image is not None for stored in found)
    ids = [{stored.record.id for stored in store.read_all()[0]} for store in (ours, theirs, third)]
    assert ids[0] == ids[1] == ids[2]


def test_other_times_and_machines_are_no_other_numbers(world: tuple[Store, Store]) -> None:
    ours, theirs = world
    put(ours)
    before = tree(ours.root)
    put(theirs, ms_per_step=7, provenance={"hardware": {"cpu": "Other"}, "command": "other"}, notes=("resumed",))
    (merged,) = merge(ours, [theirs.root])
    assert numbers(merged) == (0, 1, 0, 0)
    assert tree(ours.root) == before


def test_other_numbers_are_reported_from_both_sides_and_nothing_is_overwritten(
    world: tuple[Store, Store], capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = world
    mine = put(ours, quality=0.8)
    other = put(theirs, quality=0.7, provenance={"hardware": {"gpu": {"name": "Big GPU"}}})
    put(theirs, quality=0.7, seed=1)
    before = tree(ours.root)
    arguments = ["merge", str(theirs.root), "--results", str(ours.root)]
    assert run(arguments) == 1
    said = capsys.readouterr().out
    for words in (str(mine), str(other), "Example CPU", "Big GPU", "torch 2.9.0", "confusion matrix, per-image counts"):
        assert words in said
    assert "1 record copied" in said
    assert before.items() <= tree(ours.root).items()
    assert run([*arguments, "--json"]) == 1
    (source,) = json.loads(capsys.readouterr().out)["sources"]
    assert (source["new"], source["same"], source["skipped"]) == (0, 1, [])
    (found,) = source["different"]
    assert found["id"] == make_cell().id
    assert found["ours"]["miou"] > found["theirs"]["miou"]


@pytest.mark.parametrize("field", ["status", "counts", "classes"])
def test_each_number_counts(world: tuple[Store, Store], field: str) -> None:
    ours, theirs = world
    put(ours)
    if field == "status":
        put(theirs, status="diverged")
    elif field == "classes":
        rewrite(put(theirs), lambda data: data["class_names"].reverse())
    else:
        cell, record, counts = make_record()
        theirs.write(cell, record, counts[::-1], [f"image_{i}" for i in range(len(counts))])
    (merged,) = merge(ours, [theirs.root])
    assert numbers(merged) == (0, 0, 1, 0)


def test_extra_counts_count(world: tuple[Store, Store], capsys: pytest.CaptureFixture[str]) -> None:
    """Different ones are other numbers; where ours lack them, it is said and ours stay."""
    ours, theirs = world
    boundary = [[8, 1, 1]] * 8
    for seed in range(3):
        put(ours, seed=seed)
        rewrite(put(theirs, seed=seed), lambda data: data.update(extra_counts={"boundary": boundary}))
    rewrite(put(ours, seed=1), lambda data: data.update(extra_counts={"boundary": [[9, 1, 1]] * 8}))
    rewrite(put(ours, seed=2), lambda data: data.update(extra_counts={"boundary": boundary}))
    before = tree(ours.root)
    (merged,) = merge(ours, [theirs.root])
    assert numbers(merged) == (0, 2, 1, 0)
    assert merged.different[0].differ == ("extra counts",)
    assert [path.name.startswith("ce-s0-") for path in merged.richer] == [True]
    assert tree(ours.root) == before
    assert run(["merge", str(theirs.root), "--results", str(ours.root)]) == 1
    assert "1 of the same have counts of boundaries" in capsys.readouterr().out
    (back,) = merge(theirs, [ours.root])
    assert back.richer == []


def test_sources_that_disagree_with_each_other(tmp_path: Path) -> None:
    first, second, third = (Store(tmp_path / name) for name in ("first", "second", "third"))
    put(first, quality=0.8)
    put(second, quality=0.7)
    put(third, quality=0.8)
    folders = [store.root for store in (first, second, third)]
    foretold = merge(Store(tmp_path / "nothing"), folders, dry_run=True)
    assert not (tmp_path / "nothing").exists()
    ours = Store(tmp_path / "ours")
    merged = merge(ours, folders)
    assert [numbers(item) for item in merged] == [(1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0)]
    assert [numbers(item) for item in foretold] == [numbers(item) for item in merged]
    (found,) = merged[1].different
    assert {path.parents[3].name for path in (found.ours.path, found.theirs.path)} == {"first", "second"}
    assert tree(ours.root) == tree(first.root)


def test_a_record_without_its_counts_gets_them(world: tuple[Store, Store], tmp_path: Path) -> None:
    ours, theirs = world
    put(theirs)
    bare = Store(tmp_path / "bare")
    put(bare).with_suffix(".npz").unlink()
    assert numbers(merge(ours, [bare.root])[0]) == (1, 0, 0, 0)
    assert ours.read_all()[0][0].per_image is None
    merge(ours, [theirs.root], dry_run=True)
    assert tree(ours.root) == tree(bare.root)
    assert numbers(merge(ours, [theirs.root])[0]) == (0, 1, 0, 0)
    assert tree(ours.root) == tree(theirs.root)


def npz(**members: np.ndarray[Any, Any] | bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            content = io.BytesIO()
            if isinstance(value, bytes):
                content.write(value)
            else:
                np.lib.format.write_array(content, value, allow_pickle=True)
            archive.writestr(f"{name}.npy", content.getvalue())
    return buffer.getvalue()


def header(shape: str, descr: str = "<i4") -> bytes:
    """An array that says it has this shape, and holds nothing."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


NAMES = np.array([f"image_{i}" for i in range(4)])
COUNTS = make_record()[2]


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.file,)


@pytest.mark.parametrize(
    "sidecar",
    [
        b"", b"PK\x03\x04", npz(counts=COUNTS), npz(counts=COUNTS[:3], names=NAMES), npz(counts=-COUNTS, names=NAMES),
        npz(counts=COUNTS.astype(float), names=NAMES), npz(counts=header("(9, 9, 10000000000000)"), names=NAMES),
        npz(counts=header("(-1, -1)"), names=NAMES), npz(counts=header("(1,)", "|O"), names=NAMES),
        npz(counts=header("(" * 60), names=NAMES), npz(counts=b"", names=NAMES), npz(counts=COUNTS, names=COUNTS),
        npz(counts=np.zeros(2**21, np.uint8), names=NAMES),
    ],
    ids=range(13),
)  # fmt: skip
def test_bad_sidecars(world: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch, sidecar: bytes) -> None:
    monkeypatch.setattr(lossbench.sidecar, "MOST_BYTES", 2**20)
    ours, theirs = world
    put(theirs).with_suffix(".npz").write_bytes(sidecar)
    put(theirs, seed=1)
    (merged,) = merge(ours, [theirs.root])
    assert numbers(merged) == (1, 0, 0, 1)
    assert "counts" in merged.skipped[0].reason


def test_pickles_in_a_sidecar_are_not_loaded(world: tuple[Store, Store], tmp_path: Path) -> None:
    ours, theirs = world
    evil = np.array([Evil(str(tmp_path / "executed"))], dtype=object)
    path = put(theirs)
    path.with_suffix(".npz").write_bytes(npz(counts=evil, names=evil))
    assert numbers(merge(ours, [theirs.root])[0]) == (0, 0, 0, 1)
    assert theirs.read_all()[0][0].per_image is None
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["confusion"][0].__setitem__(0, -1),
        lambda d: d["confusion"][0].__setitem__(0, 2**62),
        lambda d: d.update(confusion=[[0] * 8] * 8),
        lambda d: d["confusion"].pop(),
        lambda d: d["train_pixels"].__setitem__(0, -5),
        lambda d: d["confusion"][0].__setitem__(0, d["confusion"][0][0] + 1),
        lambda d: d.update(status="perfect"),
        lambda d: d.update(provenance={"hardware": "x"}),
        lambda d: d.update(provenance={"hardware": {"gpu": "x"}}),
        lambda d: d.update(curve={"loss": "x"}),
        lambda d: d.update(curve={"loss": [[1]]}),
        lambda d: d.update(notes=[{}]),
        lambda d: d["cell"].update(protocol={"crop": 1}),
        lambda d: d["cell"].update(seed="0"),
        lambda d: d["cell"].update(loss="ce"),
        lambda d: d["labels"].update(loss="\x1b]0;owned\x07"),
        lambda d: d["provenance"].update(command="\udc1b"),
    ],
)
def test_records_that_cannot_be_are_skipped(
    world: tuple[Store, Store], change: Callable[[dict[str, Any]], Any]
) -> None:
    ours, theirs = world
    rewrite(put(theirs), change)
    put(theirs, seed=1)
    (merged,) = merge(ours, [theirs.root])
    assert numbers(merged) == (1, 0, 0, 1)
    assert len(tree(ours.root)) == 2


def test_a_wrong_id_a_newer_schema_and_no_record_at_all(
    world: tuple[Store, Store], capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = world
    path = put(theirs)
    data = json.loads(path.read_text())
    (path.parent / "id.json").write_text(json.dumps(data | {"id": "0" * 16}))
    (path.parent / "newer.json").write_text(json.dumps(data | {"schema": 99}))
    (path.parent / "half.json").write_text(path.read_text()[:500])
    (path.parent / "deep.json").write_text("[" * 100_000)
    (path.parent / "name\x1b[2J\n.json").write_text("x")
    (path.parent / os.fsdecode(b"\xff.json")).write_text("x")
    assert run(["merge", str(theirs.root), "--results", str(ours.root)]) == 1
    said = capsys.readouterr().out
    assert "1 record copied" in said
    for words in ("not the hash of its cell", "schema 99 is newer", "upgrade", "not valid JSON", r"name\x1b[2J\n.json"):
        assert words in said
    assert run(["merge", str(theirs.root), "--results", str(ours.root), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["sources"][0]["skipped"]) == 6


def test_names_are_no_paths(world: tuple[Store, Store], tmp_path: Path) -> None:
    ours, theirs = world
    for number, name in enumerate(("../../../x", "/etc/x", "..", "a/b", ".hidden", "x" * 5000)):
        path = put(theirs, seed=number)

        def rename(data: dict[str, Any], name: str = name) -> None:
            for kind in ("dataset", "backbone", "loss"):
                data["cell"][kind]["name"] = name
            data["labels"] = dict.fromkeys(data["labels"], name)

        rewrite(path, rename)
        moved = path.with_name(f"..{number}...json".lstrip("."))
        os.rename(path, moved)
        os.rename(path.with_suffix(".npz"), moved.with_suffix(".npz"))
    before = {path for path in tmp_path.rglob("*") if ours.root not in (path, *path.parents)}
    assert numbers(merge(ours, [theirs.root])[0]) == (6, 0, 0, 0)
    assert {path for path in tmp_path.rglob("*") if ours.root not in (path, *path.parents)} == before
    assert all(len(path.relative_to(ours.records_dir).parts) == 3 for path in ours.records_dir.rglob("*.json"))
    found, warnings = ours.read_all()
    assert (len(found), warnings) == (6, [])


def test_links_pipes_and_huge_files_do_no_harm(
    world: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = world
    monkeypatch.setattr(foreign, "_MOST_JSON", 10**6)
    path = put(theirs)
    secret = put(Store(tmp_path / "secret"), seed=7)
    (path.parent / "link.json").symlink_to(secret)
    (path.parent / "nowhere.json").symlink_to("nowhere")
    (theirs.records_dir / "outside").symlink_to(secret.parents[1])
    (theirs.records_dir / "loop").symlink_to(theirs.records_dir)
    os.mkfifo(path.parent / "pipe.json")
    (path.parent / "folder.json").mkdir()
    with (path.parent / "huge.json").open("wb") as huge:
        huge.truncate(2**40)
    deep = theirs.records_dir
    for _ in range(30):
        deep = deep / "d"
    deep.mkdir(parents=True)
    piped = put(theirs, seed=2)
    piped.with_suffix(".npz").unlink()
    os.mkfifo(piped.with_suffix(".npz"))
    linked = put(theirs, seed=3)
    linked.with_suffix(".npz").unlink()
    linked.with_suffix(".npz").symlink_to(secret.with_suffix(".npz"))
    (merged,) = merge(ours, [theirs.root])
    assert numbers(merged) == (1, 0, 0, 9)
    assert [stored.record.seed for stored in ours.read_all()[0]] == [0]


def test_folders_that_are_none(world: tuple[Store, Store], tmp_path: Path) -> None:
    ours, theirs = world
    put(ours)
    put(theirs)
    for folder in (tmp_path / "missing", tmp_path, ours.records_dir, ours.root):
        with pytest.raises(ConfigError):
            merge(Store(ours.root), [theirs.root, folder])
    assert len(tree(ours.root)) == 2, "what is wrong with one is found before the others are copied"
    (tmp_path / "sly").mkdir()
    (tmp_path / "sly" / "records").symlink_to(theirs.records_dir)
    with pytest.raises(ConfigError, match="symbolic link"):
        merge(ours, [tmp_path / "sly"])


def test_ours_that_cannot_be_read_stays(world: tuple[Store, Store]) -> None:
    ours, theirs = world
    for seed in range(3):
        put(theirs, seed=seed)
    half, newer, counts = (put(ours, seed=seed) for seed in range(3))
    half.write_text(half.read_text()[:300])
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"schema": 99}))
    counts.with_suffix(".npz").write_bytes(b"damaged")
    before = tree(ours.root)
    (merged,) = merge(ours, [theirs.root])
    assert numbers(merged) == (0, 0, 0, 3)
    assert all(isinstance(item, Skipped) and "stays" in item.reason for item in merged.skipped)
    assert tree(ours.root) == before


def test_a_full_disk_leaves_whole_records_and_a_merge_that_can_be_repeated(
    world: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = world
    for seed in range(4):
        put(theirs, seed=seed)
    monkeypatch.setattr(merging, "_BATCH", 2)
    real, left = files.prepare, [6]

    def prepare(path: Path, content: bytes) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(files, "prepare", prepare)
    with pytest.raises(SetupError, match="No space left"):
        merge(ours, [theirs.root])
    assert len(tree(ours.root)) == 4, "no temporary file is left"
    left[0] = 100
    assert numbers(merge(ours, [theirs.root])[0]) == (2, 2, 0, 0)
    assert tree(ours.root) == tree(theirs.root)


def test_somebody_writes_a_record_while_it_is_merged(
    world: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run ends between the look and the write: its record stays, with its own counts."""
    ours, theirs = world
    put(theirs, quality=0.7)
    flush, settled = files.flush, threading.Event()

    def late(written: Any) -> None:
        flush(written)
        if not settled.is_set():
            settled.set()
            put(ours, quality=0.8)

    monkeypatch.setattr(files, "flush", late)
    (merged,) = merge(ours, [theirs.root])
    assert numbers(merged) == (0, 0, 1, 0)
    (stored,) = ours.read_all()[0]
    assert stored.per_image is not None
    assert len(tree(ours.root)) == 2


@pytest.mark.parametrize("faster", [True, False])
def test_a_sidecar_without_its_record_is_given_back_to_who_is_just_writing_it(
    world: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    """A run has written its counts, and writes its record in the very moment that ours is about to get its name."""
    ours, theirs = world
    put(theirs, quality=0.7)
    elsewhere = put(Store(theirs.root.parent / "run"), quality=0.8)
    place = ours.record_path(make_cell())
    place.parent.mkdir(parents=True)
    place.with_suffix(".npz").write_bytes(elsewhere.with_suffix(".npz").read_bytes())
    link = files.link

    def late(temporary: Path, path: Path) -> bool:
        if path == place and faster:
            place.write_bytes(elsewhere.read_bytes())
        return link(temporary, path)

    monkeypatch.setattr(files, "link", late)
    assert numbers(merge(ours, [theirs.root])[0]) == ((0, 0, 1, 0) if faster else (1, 0, 0, 0))
    (stored,) = ours.read_all()[0]
    assert stored.per_image is not None
    assert len(tree(ours.root)) == 2


def test_many_merge_into_one_folder_at_once(tmp_path: Path) -> None:
    sources = [Store(tmp_path / str(number)) for number in range(4)]
    for number, store in enumerate(sources):
        for seed in range(number, number + 6):  # they overlap, and agree
            put(store, seed=seed)
    ours = Store(tmp_path / "ours")
    answers: list[Merged] = []
    threads = [
        threading.Thread(target=lambda store=store: answers.extend(merge(ours, [store.root])))  # type: ignore[misc]
        for store in sources
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(item.new for item in answers) == 9
    assert sum(item.new + item.same for item in answers) == 24
    found, warnings = ours.read_all()
    assert (len(found), warnings) == (9, [])
    assert len(tree(ours.root)) == 18


def test_time_grows_with_the_records_not_faster(tmp_path: Path) -> None:
    cell, record, counts = make_record()
    content = {}
    for size in (100, 400):
        theirs = Store(tmp_path / f"theirs{size}")
        path = theirs.write(cell, record, counts, [f"image_{i}" for i in range(len(counts))])
        sidecar = path.with_suffix(".npz").read_bytes()
        for seed in range(1, size):
            record.cell = {**cell.identity, "seed": seed}
            path = theirs.path_of(record)
            path.write_text(record.to_json())
            path.with_suffix(".npz").write_bytes(sidecar)
        record.cell = cell.identity
        started = time.process_time()
        assert numbers(merge(Store(tmp_path / f"ours{size}"), [theirs.root])[0]) == (size, 0, 0, 0)
        content[size] = time.process_time() - started
    assert content[400] < 12 * content[100] + 0.2


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Root may do anything: as somebody else, then."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """pytest's own folders are not for everybody."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.mark.parametrize("mode", [0o000, 0o600, 0o644])
def test_folders_that_may_not_be_entered(open_folder: Path, mode: int, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = Store(open_folder / "theirs")
    closed = put(theirs, dataset="camvid").parents[1]
    (closed / "link").symlink_to(closed / "fcn_timm")
    put(theirs)
    ours = Store(open_folder / "ours")
    closed.chmod(mode)
    with without_rights():
        (merged,) = merge(ours, [theirs.root])
        assert numbers(merged)[0] == 1
        assert all("cannot be read" in item.reason for item in merged.skipped)
    closed.chmod(0o755)
    for folder in (theirs.root, theirs.records_dir):
        folder.chmod(mode)
        with without_rights():
            assert run(["merge", str(theirs.root), "--results", str(ours.root)]) in (1, 2)
        folder.chmod(0o755)
    assert "Permission denied" in capsys.readouterr().err


def test_a_file_for_a_results_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert run(["merge", str(tmp_path / "file"), "--results", str(tmp_path / "ours")]) == 2
