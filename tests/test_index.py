"""index.py: whatever happens to records or index, what is shown is what reading every file shows, bit for bit."""

from __future__ import annotations

import json
import math
import os
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lossbench import index, readmany
from lossbench.leaderboard import build
from lossbench.runs import Part, Run, Runs
from lossbench.runtable import COSTS, SCORES
from lossbench.sidecar import per_image_counts
from lossbench.store import Store, StoredRecord
from lossbench.tabulate import tabulate
from lossbench.views.data import render_json
from tests.factories import SHARES, make_record, put


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store whose index is used however few the records, and trusts the clock: tests write faster than it ticks."""
    monkeypatch.setattr(index, "SMALLEST", 0)
    monkeypatch.setattr(index, "TICK_NS", -(10**18))
    monkeypatch.setattr(index, "_FEW_SHARE", 0)
    return Store(tmp_path / "results", tmp_path / "cache")


def fill(store: Store, seed: int, records: int = 30) -> None:
    """Records of all sorts: several settings, protocols, class sets and machines; diverged, empty, without costs; and
    files that hold none."""
    rng = random.Random(seed)
    for number in range(records):
        classes = rng.choice([2, 8, 8, 8])
        cell, record, per_image = make_record(
            dataset=rng.choice(["streets", "camvid"]),
            loss=rng.choice(["ce", "focal", "cdfl"]),
            params=rng.choice([{}, {"gamma": 2.0}]),
            seed=rng.randrange(6),
            quality=rng.uniform(0.2, 0.95),
            status=rng.choice(["ok", "ok", "ok", "diverged"]),
            protocol=rng.choice([{}, {}, {"lr": 0.001}]),
            provenance=rng.choice([{}, {"hardware": {"cpu": "Other", "device": "cpu"}}, {"hardware": None}]),
            class_names=tuple("abcdefgh"[:classes]),
            shares=SHARES[:classes],
            ms_per_step=rng.uniform(50, 500),
        )
        if rng.random() < 0.1:
            record.confusion[:] = 0
            per_image[:] = 0
        if rng.random() < 0.1:
            record.costs = {"ms_per_step": None, "extra_forwards": 3}
        path = store.write(cell, record, per_image, [str(i) for i in range(len(per_image))])
        if rng.random() < 0.1:
            path.with_name(f"bad-{number}.json").write_text("{")
        if rng.random() < 0.1:
            path.with_name(f"again-{number}.json").write_bytes(path.read_bytes())
        if rng.random() < 0.1:
            (path.parent / f"deeper.{number}").mkdir()
            path.rename(path.parent / f"deeper.{number}" / path.name)


def shown(store: Store, use: index.IndexUse = "checked") -> str:
    """Everything a leaderboard may show, in full precision."""
    table, warnings = store.runs(use)
    return render_json(build(table, reference="ce"), warnings)


def same_for_all(store: Store) -> str:
    plain, warnings = store.read_all()
    expected = render_json(build(plain, reference="ce"), warnings)
    assert shown(store, "off") == expected
    assert shown(store) == expected  # builds or mends the index
    assert shown(store) == expected  # uses it
    assert shown(store, "trusted") == expected
    return expected


@pytest.mark.parametrize("seed", range(6))
def test_with_and_without_it_everything_is_the_same(store, seed):
    fill(store, seed)
    same_for_all(store)
    assert list((store.cache / "leaderboard").iterdir())


def test_a_table_holds_the_figures_of_each_record_bit_for_bit(store):
    """A thousand matrices at once, against the pure functions one by one."""
    fill(store, 0, 60)
    plain, _ = store.read_all()
    table, _ = store.runs("off")
    for row, stored in enumerate(plain):
        run, here = Run(stored), Runs(table, [Part(table.conditions[table.condition[row]], np.array([row]))])
        assert here.ids == [stored.record.id]
        assert here.seeds == [run.seed]
        for key in (*SCORES, *COSTS[:3], "image_miou", "image_class_miou"):
            assert here.values(key).tobytes() == np.float64(run.value(key)).tobytes(), key
        for name, value in run.class_iou.items():
            assert here.class_iou[name].tobytes() == np.float64(value).tobytes()
        ours = per_image_counts(table, row)
        assert (ours is None) == (stored.per_image is None)


@pytest.mark.parametrize("seed", range(4))
def test_records_that_come_go_and_change(store, seed):
    fill(store, seed)
    same_for_all(store)
    rng = random.Random(seed)
    for turn in range(6):
        files = sorted((store.root / "records").rglob("*.json"))
        action = rng.choice(["delete", "add", "edit", "break", "touch"])
        victim = rng.choice(files)
        if action == "delete":
            victim.unlink()
        elif action == "add":
            put(store, loss="df", seed=100 + turn, quality=rng.uniform(0.3, 0.9))
        elif action == "edit":
            victim.write_text(victim.read_text().replace('"ms_per_step": ', '"ms_per_step": 1'))
        elif action == "break":
            victim.write_text(victim.read_text()[:-30])
        else:
            os.utime(victim)
        same_for_all(store)


def test_an_edit_of_equal_size_and_time_is_seen(store):
    """By the inode's own time, which no program can set back."""
    path = put(store)
    before = same_for_all(store)
    stat, text = path.stat(), path.read_text()
    path.write_text(text.replace('"peak_memory_mb": 900.0', '"peak_memory_mb": 901.0'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert same_for_all(store) != before


def test_what_was_written_within_a_tick_of_the_clock_is_read_again(store, monkeypatch):
    monkeypatch.setattr(index, "TICK_NS", 10**12)
    put(store)
    shown(store)
    known = index._load(index.index_file(store.records_dir, store.cache), store.records_dir)
    assert not known.stamps.any()
    read = readmany.read_record
    calls = []
    monkeypatch.setattr(readmany, "read_record", lambda path: calls.append(path) or read(path))
    shown(store)
    assert len(calls) == 1


def test_unchanged_files_are_not_read(store, monkeypatch):
    fill(store, 1)
    expected = shown(store)
    (bad,) = {len(shown(store)) for _ in range(2)}
    assert bad
    sound = [stored.path for stored in store.read_all()[0]]
    calls = []
    read = readmany.read_record
    monkeypatch.setattr(readmany, "read_record", lambda path: calls.append(str(path)) or read(path))
    assert shown(store) == expected
    assert not {str(path) for path in sound} & set(calls)
    put(store, seed=77)
    shown(store)
    assert sum("-s77-" in path for path in calls) == 1


def test_trusting_looks_at_no_file(store):
    put(store)
    expected = shown(store)
    put(store, loss="focal")
    assert shown(store, "trusted") == expected
    assert shown(store) != expected


def index_of(store):
    (file,) = (store.cache / "leaderboard").iterdir()
    return file


def test_a_damaged_index_is_as_good_as_none(store):
    fill(store, 2)
    expected = shown(store)
    sound = index_of(store).read_bytes()
    rng = random.Random(0)
    for _ in range(60):
        content = bytearray(sound)
        place = rng.randrange(len(content))
        content[place] ^= 1 << rng.randrange(8)
        index_of(store).write_bytes(bytes(content[: rng.choice([len(content), place])]))
        assert shown(store, "trusted") == expected
        assert shown(store) == expected


def test_an_index_of_other_code_or_another_folder_is_not_read(store, monkeypatch):
    put(store)
    expected = shown(store)
    table, _ = store.runs("trusted")
    assert index._load(index_of(store), store.root) is None
    monkeypatch.setattr(index, "_code", lambda: "other")
    assert index._load(index_of(store), store.records_dir) is None
    assert len(table) == 1
    assert shown(store) == expected
    assert index._load(index_of(store), store.records_dir) is not None


def test_a_cache_that_cannot_be_written_is_no_error(store):
    put(store)
    store.cache.write_text("a file where the folder should be")
    same_for_all(store)


def test_deleting_the_index_loses_nothing(store):
    fill(store, 3)
    expected = shown(store)
    index_of(store).unlink()
    assert shown(store) == expected


def test_many_at_once(store):
    fill(store, 4)
    expected = shown(store, "off")
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(lambda _: shown(store), range(24))) == {expected}
    assert not list(store.cache.rglob("*.tmp"))


def test_several_processes_read_what_one_reads(store, monkeypatch):
    fill(store, 5)
    expected = shown(store, "off")
    monkeypatch.setattr(readmany, "_SHARE", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert shown(store, "off") == expected


@pytest.mark.parametrize("trouble", ["raise SystemExit(3)", "print('hello')", "import numpy.nothing"])
def test_a_process_that_fails_changes_nothing(store, monkeypatch, tmp_path, trouble):
    """Nor is anything of the current directory imported, where a user may have a numpy.py of their own."""
    fill(store, 5)
    expected = shown(store, "off")
    monkeypatch.setattr(readmany, "_SHARE", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not the real one')")
    monkeypatch.chdir(tmp_path)
    assert shown(store, "off") == expected
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(trouble)
    monkeypatch.syspath_prepend(str(site))
    assert shown(store, "off") == expected


def test_a_cost_beyond_all_floats_is_unknown(store):
    put(store)
    path = next(store.root.rglob("*.json"))
    data = json.loads(path.read_text())
    data["costs"]["ms_per_step"] = 10**400
    path.write_text(json.dumps(data))
    table, warnings = store.runs("off")
    assert len(table) == 1
    assert not warnings
    assert math.isnan(table.costs[0][0])


def test_an_index_is_not_trusted_below_the_size_it_is_kept_for(store, monkeypatch):
    fill(store, 3)
    shown(store)
    next(store.root.rglob("*.json")).unlink()
    monkeypatch.setattr(index, "SMALLEST", 10**6)
    assert shown(store, "trusted") == shown(store, "off")


def test_a_row_of_unscored_and_scored_runs_keeps_its_order(store):
    for seed in range(4):
        cell, record, per_image = make_record(loss="df", seed=seed)
        if seed % 2:
            record.confusion[:] = 0
            per_image[:] = 0
        store.write(cell, record, per_image, [str(i) for i in range(len(per_image))])
    (block,) = build(store.runs()[0])
    assert block.rows[0].seeds == (0, 1, 2, 3)


def test_few_records_need_no_index(tmp_path):
    store = Store(tmp_path / "results", tmp_path / "cache")
    put(store)
    assert len(store.runs()[0]) == 1
    assert not store.cache.exists()


def test_taking_rows_keeps_runs_of_different_sizes_apart(store):
    fill(store, 0)
    plain, _ = store.read_all()
    table = tabulate(store.root, [(str(stored.path), stored.record) for stored in plain])
    order = np.random.default_rng(0).permutation(len(table))
    taken = table.take(order)
    for place, row in enumerate(order.tolist()):
        assert taken.paths[place] == table.paths[row]
        ours, theirs = (t.counts_of(np.array([r])) for t, r in ((taken, place), (table, row)))
        assert (ours == theirs).all()


def test_a_seed_beyond_64_bits_is_no_record(store):
    path = put(store)
    data = json.loads(path.read_text())
    data["cell"]["seed"] = 2**63
    path.write_text(json.dumps(data))
    (warning,) = store.runs()[1]
    assert "64 bits" in warning


def test_stored_records_and_tables_build_the_same(store):
    fill(store, 6)
    plain, _ = store.read_all()
    assert all(isinstance(stored, StoredRecord) for stored in plain)
    assert render_json(build(plain, sort="tail")) == render_json(build(store.runs()[0], sort="tail"))
