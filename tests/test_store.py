"""store.py: atomic, ordered, inside its root; damage is reported and never hides the other records."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from lossbench.cells import Component
from lossbench.errors import ConfigError, RecordError, SetupError, UnknownNameError
from lossbench.sidecar import read_sidecar
from lossbench.store import Store
from tests.factories import make_cell, make_record, put


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def names_of(count):
    return [f"image_{i}" for i in range(count)]


def test_layout(store):
    cell = make_cell(loss="focal", seed=3)
    expected = store.root / "records" / "streets" / "fcn_timm" / f"focal-s3-{cell.id}.json"
    assert store.record_path(cell) == expected
    assert store.run_dir(cell.id) == store.root / "runs" / cell.id
    assert not store.root.exists()  # asking touches nothing


def test_write_then_read(store):
    cell, record, per_image = make_record(seed=1)
    assert not store.has(cell)
    assert store.load(cell) is None
    path = store.write(cell, record, per_image, names_of(4))
    assert store.has(cell)
    loaded = store.load(cell)
    assert loaded is not None
    assert loaded.to_json() == record.to_json()
    (stored,), warnings = store.read_all()
    assert (stored.path, warnings) == (path, [])
    assert (stored.per_image == per_image).all()
    counts, names = read_sidecar(path.with_suffix(".npz"), record)
    assert counts.dtype == np.int32
    assert names == names_of(4)
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, path.with_suffix(".npz").name])


def test_same_run_same_bytes(store, tmp_path):
    cell, record, per_image = make_record()
    first = store.write(cell, record, per_image, names_of(4))
    second = Store(tmp_path / "other").write(cell, record, per_image, names_of(4))
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".npz").read_bytes() == second.with_suffix(".npz").read_bytes()


def test_an_empty_store_has_nothing(store):
    assert store.read_all() == ([], [])


def test_bad_files_are_skipped_with_one_line_each(store):
    good = [put(store, seed=seed) for seed in range(3)]
    folder = good[0].parent
    (folder / "truncated-s0-00.json").write_bytes(good[0].read_bytes()[:700])
    newer = json.loads(good[0].read_text()) | {"schema": 99}
    (folder / "newer-s0-00.json").write_text(json.dumps(newer))
    (folder / "package.json").write_text('{"name": "x"}')
    (folder / "conflict.json").write_text("<<<<<<< HEAD\n{}\n")
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")
    (folder / "copy.json").write_bytes(good[1].read_bytes())
    (folder / ".ce-s0-1.json.123.tmp").write_text("{")
    (folder / "README.md").write_text("no record")
    found, warnings = store.read_all()
    assert sorted(stored.record.seed for stored in found) == [0, 1, 2]
    assert len(warnings) == 6
    assert all(line.startswith("skipped ") and "\n" not in line for line in warnings)
    text = "\n".join(warnings)
    for words in (
        "truncated-s0-00.json: not valid JSON",
        "schema 99 is newer",
        "package.json: not a",
        "the same run as",
    ):
        assert words in text


def test_a_truncated_record_is_not_done_and_a_newer_one_is(store):
    cell, record, per_image = make_record()
    path = store.write(cell, record, per_image, names_of(4))
    complete = path.read_text()
    path.write_text(complete[:300])
    assert not store.has(cell)
    with pytest.raises(RecordError, match="not valid JSON"):
        store.load(cell)
    path.write_text(json.dumps(json.loads(complete) | {"schema": 99}))
    assert store.has(cell)


def test_the_record_of_another_cell_in_its_place_is_not_trusted(store):
    path = put(store, seed=0)
    other = make_cell(seed=1)
    path.rename(store.record_path(other))
    assert not store.has(other)


def test_sidecar_first_record_last(store, monkeypatch):
    """A crash between the two leaves no record, so the cell is simply run again."""
    cell, record, per_image = make_record()
    replace = os.replace

    def crash(source, target):
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        store.write(cell, record, per_image, names_of(4))
    monkeypatch.undo()
    folder = store.record_path(cell).parent
    assert [p.suffix for p in folder.iterdir()] == [".npz"]
    assert not store.has(cell)
    assert store.read_all() == ([], [])
    store.write(cell, record, per_image, names_of(4))
    assert store.has(cell)


def test_a_full_disk_says_so_and_leaves_the_old_record(store, monkeypatch):
    cell, record, per_image = make_record()
    path = store.write(cell, record, per_image, names_of(4))
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    record.notes.append("second run")
    with pytest.raises(SetupError, match="No space left") as caught:
        store.write(cell, record, per_image, names_of(4))
    assert str(store.root) in caught.value.message
    assert "--results" in (caught.value.hint or "")
    assert path.read_bytes() == before
    assert not list(store.root.rglob("*.tmp"))


def test_a_root_that_is_a_file_is_a_setup_error(tmp_path):
    (tmp_path / "results").write_text("")
    store = Store(tmp_path / "results")
    with pytest.raises(SetupError, match="cannot write"):
        store.ensure_writable()
    cell, record, per_image = make_record()
    with pytest.raises(SetupError, match="cannot write"):
        store.write(cell, record, per_image, names_of(4))


def test_ensure_writable_leaves_nothing_behind(store):
    store.ensure_writable()
    assert [p.name for p in store.root.rglob("*")] == ["records"]


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "..", ".", "", "/abs", "a/b", "a\\b", "C:x", "x\0y", ".git", "é" * 300]
)
def test_no_name_leads_out_of_the_root(store, name):
    cell = make_cell()
    for part in ("dataset", "backbone", "loss"):
        object.__setattr__(cell, part, Component(name))
    path = store.record_path(cell)
    inside = path.resolve().relative_to((store.root / "records").resolve())
    assert len(inside.parts) == 3
    assert not any(part.startswith(".") for part in inside.parts)
    assert len(path.name.encode()) < 255
    assert store.run_dir(name).resolve().parent == (store.root / "runs").resolve()


def test_what_does_not_belong_together_is_not_written(store):
    cell, record, per_image = make_record()
    with pytest.raises(RecordError, match="not one of the cell"):
        store.write(make_cell(seed=9), record, per_image, names_of(4))
    with pytest.raises(RecordError, match="for 3 images"):
        store.write(cell, record, per_image, names_of(3))
    wrong = per_image.copy()
    wrong[0, 0, 0] += 1
    with pytest.raises(RecordError, match="do not sum"):
        store.write(cell, record, wrong, names_of(4))
    assert not store.root.exists()


def test_a_missing_damaged_or_foreign_sidecar_is_none(store):
    path = put(store)
    sidecar = path.with_suffix(".npz")
    content = bytearray(sidecar.read_bytes())

    def per_image():
        return store.read_all()[0][0].per_image

    assert per_image() is not None
    content[len(content) // 3] ^= 0xFF
    sidecar.write_bytes(bytes(content))
    assert per_image() is None
    sidecar.write_bytes(b"")
    assert per_image() is None
    other = put(store, seed=1)
    sidecar.write_bytes(other.with_suffix(".npz").read_bytes())
    assert per_image() is None
    sidecar.unlink()
    assert per_image() is None


def test_find_by_the_start_of_the_id(store):
    cells = [make_record(seed=seed) for seed in range(20)]
    for cell, record, per_image in cells:
        store.write(cell, record, per_image, names_of(4))
    wanted = cells[0][0].id
    assert store.find(wanted).record.id == wanted
    assert store.find(wanted[:12].upper()).record.id == wanted
    with pytest.raises(UnknownNameError, match="no record"):
        store.find("zz")
    with pytest.raises(UnknownNameError):
        store.find("")
    starts = [cell.id[0] for cell, *_ in cells]
    twice = next(s for s in starts if starts.count(s) > 1)  # 20 ids, 16 digits
    with pytest.raises(ConfigError, match="is the start of"):
        store.find(twice)


def test_concurrent_writers_of_one_cell_leave_one_whole_record(store):
    code = (
        "import sys; from pathlib import Path; from lossbench.store import Store; from tests.factories import put\n"
        "for _ in range(15): put(Store(Path(sys.argv[1])))"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(store.root)]) for _ in range(2)]
    while any(worker.poll() is None for worker in workers):
        found, warnings = store.read_all()
        assert warnings == []
        assert len(found) <= 1
    assert [worker.returncode for worker in workers] == [0, 0]
    assert len(store.read_all()[0]) == 1
    assert not list(store.root.rglob("*.tmp"))


def test_reading_two_thousand_records_is_quick(store):
    cell, record, _ = make_record()
    folder = store.record_path(cell).parent
    folder.mkdir(parents=True)
    for seed in range(2000):
        record.cell = {**record.cell, "seed": seed}
        (folder / f"ce-s{seed}-{record.id}.json").write_text(record.to_json())
    start = time.perf_counter()
    found, warnings = store.read_all()
    assert (len(found), warnings) == (2000, [])
    assert time.perf_counter() - start < 5  # 0.4 s on an idle core


def test_reading_needs_neither_torch_nor_pandas(store):
    put(store)
    code = (
        "import sys; from pathlib import Path; from lossbench.store import Store\n"
        "found, _ = Store(Path(sys.argv[1])).read_all()\n"
        "assert len(found) == 1 and found[0].per_image is not None\n"
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=True)


def test_a_record_that_is_set_aside_is_kept_and_its_cell_is_to_do_again(store):
    cell, record, per_image = make_record()
    for _ in range(2):
        store.write(cell, record, per_image, names_of(4))
        store.set_aside(cell)
        assert not store.has(cell)
    kept = [path.suffix for path in (store.root / "replaced").rglob("*") if path.is_file()]
    assert sorted(kept) == [".json", ".json", ".npz", ".npz"]
    assert store.read_all() == ([], [])


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE])
def test_a_record_that_the_disk_does_not_give_now_is_not_overwritten(tmp_path, monkeypatch, number):
    store = Store(tmp_path)
    cell, record, per_image = make_record()
    store.write(cell, record, per_image, [f"image_{i}" for i in range(len(per_image))])

    def fails(path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("lossbench.files._read", fails)
    assert store.has(cell)


def test_the_first_record_stays_and_a_damaged_one_does_not(tmp_path):
    store = Store(tmp_path)
    cell, record, per_image = make_record(quality=0.8)
    _, other, other_counts = make_record(quality=0.5)
    names = [f"image_{i}" for i in range(len(per_image))]
    assert store.write_first(cell, record, per_image, names)
    assert not store.write_first(cell, other, other_counts, names)
    assert (store.load(cell).confusion == record.confusion).all()
    store.record_path(cell).write_text("{")
    assert store.write_first(cell, other, other_counts, names)
    assert (store.load(cell).confusion == other.confusion).all()
