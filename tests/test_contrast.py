from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
import scipy.stats

from lossbench import leaderboard
from lossbench.cli import main as entry
from lossbench.contrast import compare_losses, compare_tables, contrast, pick
from lossbench.errors import ConfigError
from lossbench.store import Store
from lossbench.views import contrast as view
from tests.factories import CLASSES, SHARES, put, quickstart


@pytest.fixture
def store(tmp_path):
    quickstart(Store(tmp_path / "results"))
    return Store(tmp_path / "results")


def block_of(store: Store):
    (block,) = leaderboard.build(store.runs()[0])
    return block


def test_differences_are_paired_per_class(store) -> None:
    block = block_of(store)
    ours, theirs = pick(block, "lovasz_softmax"), pick(block, "ce")
    found = contrast(block, ours, theirs)
    assert [gain.name for gain in found.classes] == list(CLASSES)  # commonest first
    assert [gain.group for gain in found.classes] == ["head"] * 3 + ["middle"] * 2 + ["tail"] * 3
    assert sum(gain.share for gain in found.classes) == pytest.approx(100)
    for gain in found.classes:
        differences = ours.runs.class_iou[gain.name] - theirs.runs.class_iou[gain.name]
        low, high = scipy.stats.t.interval(0.95, 2, differences.mean(), scipy.stats.sem(differences))
        assert gain.gain.mean == pytest.approx(differences.mean())
        assert gain.gain.interval == pytest.approx((low, high))


def test_the_slope_is_one_regression_per_seed(store) -> None:
    block = block_of(store)
    ours, theirs = pick(block, "lovasz_softmax"), pick(block, "ce")
    along = np.log10(np.array(SHARES) / sum(SHARES))
    slopes = [
        scipy.stats.linregress(along, [ours.runs.class_iou[c][s] - theirs.runs.class_iou[c][s] for c in CLASSES]).slope
        for s in range(3)
    ]
    found = contrast(block, ours, theirs).slope
    assert found.mean == pytest.approx(np.mean(slopes))
    assert found.sd == pytest.approx(np.std(slopes, ddof=1))


def test_a_loss_against_itself_is_nothing(store) -> None:
    block = block_of(store)
    row = pick(block, "ce")
    found = contrast(block, row, row)
    assert found.miou.mean == 0
    assert found.slope.mean == pytest.approx(0, abs=1e-12)
    assert "is not settled" in " ".join(view.notes(found))


def test_rows_are_named_by_label_name_or_glob(store) -> None:
    put(store, loss="cdfl", params={"omega": 0.1})
    block = block_of(store)
    assert pick(block, "cdfl(omega=0.01)").label == "cdfl(omega=0.01)"
    assert pick(block, "lov*").label == "lovasz_softmax"
    assert pick(block, "nothing") is None
    with pytest.raises(ConfigError, match="'cdfl' fits 2 rows") as caught:
        pick(block, "cdfl")
    assert "'cdfl(omega=0.01)'" in caught.value.hint


def test_what_has_no_partner_is_said(store) -> None:
    put(store, dataset="other", loss="focal")
    put(store, dataset="third", loss="focal", seed=0)
    put(store, dataset="third", loss="ce", seed=1)
    blocks = leaderboard.build(store.runs()[0])
    found, missing = compare_losses(blocks, "focal", "ce")
    assert len(found) == 1
    assert any("other" in line and "no run of ce" in line for line in missing)
    assert any("third" in line and "share no seed" in line for line in missing)
    with pytest.raises(ConfigError, match="no run of 'focall'") as caught:
        compare_losses(blocks, "focall", "ce")
    assert "focal" in caught.value.hint


# --- folders ---


def test_two_folders_of_one_origin_are_equal(store, tmp_path) -> None:
    shutil.copytree(store.root, tmp_path / "copy")
    found = compare_tables(store.runs()[0], Store(tmp_path / "copy").runs()[0])
    assert len(found.pairs) == 18
    assert all(pair.equal and pair.ours == pair.theirs and pair.code == () for pair in found.pairs)
    assert (found.only_ours, found.only_theirs) == (0, 0)


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
    assert (found.only_ours, found.only_theirs) == (1, 1)
    assert "1 cells were scored on other pixels" in found.notes[0]
    ((_, _, pairs, paired),) = found.rows
    assert paired.mean == pytest.approx(np.mean([pair.ours - pair.theirs for pair in pairs]))


# --- the verb ---


@pytest.mark.parametrize("form", [[], ["-f", "markdown"], ["-f", "csv"], ["--json"]])
def test_the_verb(store, monkeypatch, capsys, form: list[str]) -> None:
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(store.root))
    monkeypatch.setenv("COLUMNS", "80")
    assert entry.run(["compare", "lovasz_softmax", "ce", *form]) == 0
    out = capsys.readouterr().out
    if form == ["--json"]:
        (made,) = json.loads(out)["contrasts"]
        assert [line["class"] for line in made["classes"]] == list(CLASSES)
        assert made["slope"]["n"] == 3
    elif form == ["-f", "csv"]:
        lines = list(csv.DictReader(io.StringIO(out)))
        assert [line["class"] for line in lines] == ["mIoU", *CLASSES, "slope per factor of 10"]
    elif not form:
        assert out.isascii()
        assert max(map(len, out.splitlines())) <= 80
        assert "o" in next(line for line in out.splitlines() if line.startswith("train")).split()[-1]
    assert entry.run(["compare", "a", "b", "--json", "-f", "csv"]) == 2


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


def test_the_figure(store, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(store.root))
    file = tmp_path / "gain.svg"
    assert entry.run(["figure", "gain", "--loss", "lovasz*", "-o", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["data"]["classes"]) == list(CLASSES)
    assert "train" in file.read_text()
    assert entry.run(["figure", "gain", "-o", str(file)]) == 2
    assert "of which loss?" in capsys.readouterr().err
