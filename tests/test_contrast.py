from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import scipy.stats

from lossbench import leaderboard
from lossbench.cli import main as entry
from lossbench.contrast import compare_losses, contrast, pick
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


# --- the verb ---


@pytest.mark.parametrize("form", [[], ["-f", "markdown"], ["-f", "csv"], ["-f", "json"], ["--json"]])
def test_the_verb(store, monkeypatch, capsys, form: list[str]) -> None:
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(store.root))
    monkeypatch.setenv("COLUMNS", "80")
    assert entry.run(["compare", "lovasz_softmax", "ce", *form]) == 0
    out = capsys.readouterr().out
    if form in (["--json"], ["-f", "json"]):
        (made,) = json.loads(out)["contrasts"]
        assert [line["class"] for line in made["classes"]] == list(CLASSES)
        assert made["slope"]["n"] == 3
    elif form == ["-f", "csv"]:
        lines = list(csv.DictReader(io.StringIO(out)))
        assert [line["class"] for line in lines] == ["mIoU", *CLASSES, "slope per factor of 10"]
    elif not form:
        assert out.isascii()
        assert "for a class ten times as rare the difference changes by " in " ".join(out.split())
        assert max(map(len, out.splitlines())) <= 80
        assert "o" in next(line for line in out.splitlines() if line.startswith("train")).split()[-1]
    assert entry.run(["compare", "a", "b", "--json", "-f", "csv"]) == 2


def test_a_folder_of_the_name_of_a_loss(store, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(store.root))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ce").mkdir()
    assert entry.run(["compare", "focal", "ce"]) == 0
    assert "focal minus ce" in capsys.readouterr().out
    assert entry.run(["compare", "focal", "./ce"]) == 2
    assert "./ce is a folder, 'focal' is none" in capsys.readouterr().err
    assert entry.run(["compare", "ce", "focall"]) == 2
    assert "'ce' is one here" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_what_no_folder_can_be_called(store, monkeypatch, capsys, name: str) -> None:
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(store.root))
    assert entry.run(["compare", name, "ce"]) == 2
    assert "no run of" in capsys.readouterr().err


def test_the_figure(store, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(store.root))
    file = tmp_path / "gain.svg"
    assert entry.run(["figure", "gain", "--loss", "lovasz*", "-o", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["data"]["classes"]) == list(CLASSES)
    assert "train" in file.read_text()
    assert entry.run(["figure", "gain", "-o", str(file)]) == 2
    assert "of which loss?" in capsys.readouterr().err
