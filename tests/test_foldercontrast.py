from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from lossbench import PROTOCOL, metrics
from lossbench.cli import main as entry
from lossbench.foldercontrast import compare_tables
from lossbench.index import read_table
from lossbench.store import Store
from lossbench.views import foldercontrast as view
from tests.factories import SHARES, make_cell, make_record, put, quickstart


@pytest.fixture
def store(tmp_path):
    quickstart(Store(tmp_path / "results"))
    return Store(tmp_path / "results")


def test_two_folders_of_one_origin_are_equal(store, tmp_path) -> None:
    shutil.copytree(store.root, tmp_path / "copy")
    found = compare_tables(store.runs()[0], Store(tmp_path / "copy").runs()[0])
    assert len(found.pairs) == 18
    assert all(pair.equal and pair.ours == pair.theirs and pair.code == () for pair in found.pairs)
    assert (found.only_ours, found.only_theirs) == ([], [])


def test_cells_that_differ_or_are_alone(tmp_path) -> None:
    here, there = Store(tmp_path / "a"), Store(tmp_path / "b")
    code = {"code": {"dataset": "d" * 12, "backbone": "b" * 12, "loss": "c" * 12}}
    for seed in range(3):
        put(here, seed=seed, quality=0.8)
        put(there, seed=seed, quality=0.8 if seed else 0.7, provenance=code)
    put(here, loss="focal")
    put(there, loss="dice")
    put(here, loss="other", seed=5)
    put(there, loss="other", seed=5, shares=(*SHARES[:-1], 81))
    found = compare_tables(here.runs()[0], there.runs()[0])
    assert [pair.equal for pair in found.pairs] == [False, True, True]
    assert found.pairs[0].ours > found.pairs[0].theirs
    assert found.pairs[0].code == ("loss",)
    assert [(cell.loss, cell.seed) for cell in found.only_ours] == [("focal", 0)]
    assert [(cell.loss, cell.seed) for cell in found.only_theirs] == [("dice", 0)]
    assert "1 cell was scored on other pixels" in found.notes[0]
    ((_, _, pairs, paired),) = found.rows
    assert paired.mean == pytest.approx(np.mean([pair.ours - pair.theirs for pair in pairs]))


def test_another_protocol_is_another_row(tmp_path) -> None:
    """Seeds of both are 0, 1, 2: by labels alone one rate's runs took the place of the other's."""
    here, there = Store(tmp_path / "a"), Store(tmp_path / "b")
    for seed in range(3):
        for lr, gap in ((0.01, 0.0), (0.001, 0.05)):
            put(here, seed=seed, quality=0.8, protocol={"lr": lr})
            put(there, seed=seed, quality=0.8 - gap, protocol={"lr": lr})
    rows = compare_tables(here.runs()[0], there.runs()[0]).rows
    assert [len(pairs) for _, _, pairs, _ in rows] == [3, 3]
    means = {title: paired.mean for title, _, _, paired in rows}
    (plain,) = [title for title in means if "instead of" not in title]
    (other,) = means.keys() - {plain}
    assert "lr 0.0" in other
    assert sorted(mean == 0 for mean in means.values()) == [False, True]


def test_defaults_that_differ_are_told_apart(tmp_path) -> None:
    """Labels show what a suite spelled out: two losses may share one."""
    here = Store(tmp_path / "a")
    for omega in (0.1, 0.2):
        put(here, loss="cdfl", params={"omega": omega}, label="cdfl")
    table = here.runs()[0]
    assert [loss for _, loss, _, _ in compare_tables(table, table).rows] == ["cdfl(omega=0.1)", "cdfl(omega=0.2)"]


def test_the_newest_of_those_replaced_is_compared(tmp_path) -> None:
    store = Store(tmp_path)
    cell = make_cell()
    for number in range(12):
        put(store, quality=0.6 + 0.01 * number)
        store.set_aside(cell)
    put(store, quality=0.9)
    replaced, unread = read_table(store.root / "replaced", None, "off")
    assert (len(replaced), unread) == (12, [])
    found = compare_tables(store.runs()[0], replaced)
    expected = make_record(quality=0.71)[1]
    (pair,) = found.pairs
    assert pair.theirs == pytest.approx(100 * metrics.mean_iou(expected.confusion))
    assert found.notes == ["1 cell lies several times in the second folder: the newest is compared."]


def test_a_run_that_scored_nothing_has_a_row(tmp_path, monkeypatch, capsys) -> None:
    here, there = Store(tmp_path / "a"), Store(tmp_path / "b")
    for store in (here, there):
        put(store, seed=0)
        put(store, seed=1)
    for store, seed in ((there, 1), (here, 2), (there, 2)):
        cell, record, _ = make_record(seed=seed, status="diverged")
        record.confusion[:] = 0
        store.write(cell, record, np.zeros((1, len(record.class_names), 3), int), ["a"])
    found = compare_tables(here.runs()[0], there.runs()[0])
    assert [(math.isnan(pair.ours), math.isnan(pair.theirs), pair.equal) for pair in found.pairs] == [
        (False, False, True),
        (False, True, False),
        (True, True, True),
    ]
    ((_, _, _, paired),) = found.rows
    assert paired.seeds == (0,)
    said = " ".join(found.notes)
    assert "1 cell was scored on no pixel at all in the first" in said
    assert "2 cells were scored on no pixel at all in the second" in said
    assert "other pixels" not in said
    assert "and nothing." in " ".join(view.notes(found, "a", "b"))
    assert json.loads(view.render_json(found))["cells"][1]["theirs"] is None
    assert entry.run(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "nan" not in capsys.readouterr().out


def test_another_engine_is_said(tmp_path) -> None:
    here, there = Store(tmp_path / "a"), Store(tmp_path / "b")
    put(here)
    put(there, provenance={"protocol": PROTOCOL + 1})
    found = compare_tables(here.runs()[0], there.runs()[0])
    assert found.pairs[0].code == ("PROTOCOL",)
    assert f"under PROTOCOL {PROTOCOL} of the engine in the first and {PROTOCOL + 1} in the second" in found.notes[0]


# --- the verb ---


def test_the_verb_on_folders(store, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(store.root / "records", tmp_path / "replaced")
    assert entry.run(["compare", str(store.root), str(tmp_path / "replaced")]) == 0
    out = capsys.readouterr().out
    assert "18 cells are in both, 18 of them with" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert entry.run(["compare", str(store.root), str(tmp_path / "replaced"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 18
    (tmp_path / "empty").mkdir()
    assert entry.run(["compare", str(store.root), str(tmp_path / "empty")]) == 2
    assert entry.run(["compare", str(store.root), "ce"]) == 2
    assert entry.run(["compare", str(store.root), str(tmp_path), "-f", "csv"]) == 2


def test_json_lists_the_cells_of_one_folder(store, tmp_path, capsys) -> None:
    shutil.copytree(store.root, tmp_path / "copy")
    put(Store(tmp_path / "copy"), loss="dice", seed=4)
    assert entry.run(["compare", str(store.root), str(tmp_path / "copy"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["only_ours"] == []
    (alone,) = told["only_theirs"]
    assert (alone["loss"], alone["seed"], len(alone["id"])) == ("dice", 4, 16)


def test_one_cell_is_singular(tmp_path, capsys) -> None:
    for name in ("here", "there"):
        put(Store(tmp_path / name), loss="ce")
    assert entry.run(["compare", str(tmp_path / "here"), str(tmp_path / "there")]) == 0
    assert "1 cell is in both, 1 of them" in " ".join(capsys.readouterr().out.split())
