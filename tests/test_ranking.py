from __future__ import annotations

import io
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from lossbench import leaderboard, ranking, ranktests
from lossbench.cli import main as entry
from lossbench.errors import ConfigError
from lossbench.store import Store
from lossbench.views import ranking as view
from tests.factories import make_record, put

LOSSES = {"ce": 0.7, "balanced_ce": 0.72, "focal": 0.69, "lovasz_softmax": 0.78}


def fill(store: Store, datasets: int = 6, losses: dict[str, float] = LOSSES, seeds: int = 3) -> None:
    for place, seed, (loss, quality) in itertools.product(range(datasets), range(seeds), losses.items()):
        put(store, dataset=f"set{place}", loss=loss, seed=seed, quality=quality + 0.01 * ((place * 7) % 3))


def board(store: Store, **options):
    return leaderboard.build(store.runs()[0], **options)


def test_ranks_are_of_the_means_of_each_block(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store)
    blocks = board(store)
    found = ranking.rank(blocks)
    assert sorted(found.losses) == sorted(LOSSES)
    assert found.losses[0] == "lovasz_softmax"
    for b, block in enumerate(blocks):
        means = {row.label: round(row.value("miou"), 2) for row in block.rows}
        expected = scipy.stats.rankdata([-means[loss] for loss in found.losses])
        assert found.ranks[b].tolist() == expected.tolist()
    assert (np.diff(found.mean_ranks) >= 0).all()
    ce = found.losses.index("ce")
    assert found.improvement[ce] is None
    assert all(values[:, ce].mean() == pytest.approx(100) for values in found.relative)
    assert found.notes == []


def test_intervals_hold_their_figure(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store)
    found = ranking.rank(board(store))
    for each in [*found.iqm, *(chance for chance in found.improvement if chance is not None)]:
        assert each.low <= each.value + 1e-9
        assert each.value - 1e-9 <= each.high


def test_cliques_are_the_longest_runs_within_the_critical_difference() -> None:
    ranks = np.array([[1.0, 2.0, 2.4, 5.0, 5.5]])
    made = ranking.Ranking(["b"], list("abcde"), "a", ranks, [], [], [], None, critical=1.5)
    assert made.cliques == [(0, 2), (3, 4)]
    assert replace(made, critical=0.1).cliques == []
    assert replace(made, critical=None).cliques == []


def test_few_blocks_have_no_critical_difference(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, datasets=4)
    found = ranking.rank(board(store))
    assert found.critical is None
    assert "below 5" in " ".join(view.notes(found))


def test_what_is_left_out_is_named(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, datasets=5)
    put(store, dataset="set0", loss="dice", quality=0.8)
    put(store, dataset="set1", loss="ce", seed=0, quality=0.9, protocol={"lr": 0.5})
    put(store, dataset="other", loss="focal", quality=0.9)
    for loss, seeds in (("ce", (0, 1)), ("balanced_ce", (1,)), ("focal", (0,)), ("lovasz_softmax", (0,))):
        for seed in seeds:
            put(store, dataset="apart", loss=loss, seed=seed, quality=0.7)
    found = ranking.rank(board(store))
    assert len(found.blocks) == 5
    notes = " ".join(found.notes)
    assert "Left out, in 1 of 6 blocks: dice." in notes
    assert "not the usual protocol of its dataset and backbone: set1 / fcn_timm" in notes
    assert "no run of the reference: other" in notes
    assert "share no seed: apart" in notes


def test_a_loss_of_few_seeds_does_not_cut_all_others(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, datasets=2)
    for place in range(2):
        put(store, dataset=f"set{place}", loss="dice", quality=0.9)
    found = ranking.rank(board(store))
    assert "dice" not in found.losses
    assert [len(values) for values in found.relative] == [3, 3]
    assert len(found.notes) == 1
    assert "too few seeds in common with the reference: dice (1, others 3, in set0" in found.notes[0]


def test_the_seeds_that_remain_are_said(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, datasets=2, seeds=5)
    for place, seed in itertools.product(range(2), range(3)):
        put(store, dataset=f"set{place}", loss="dice", seed=seed, quality=0.9)
    found = ranking.rank(board(store))
    assert "dice" in found.losses
    assert [len(values) for values in found.relative] == [3, 3]
    assert len(found.notes) == 2
    assert "Ranked over 3 seeds of up to 5 in set0" in found.notes[0]
    assert found.notes[0].endswith("not all are run of dice.")


def test_a_single_seed_has_no_interval(tmp_path, capsys) -> None:
    store = Store(tmp_path)
    fill(store, datasets=1, seeds=1)
    found = ranking.rank(board(store))
    assert all(each.low is None and each.high is None for each in found.iqm)
    assert entry.run(["ranks", "--results", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert ".." not in out
    assert "No intervals: a block has a single seed." in out
    assert "Over 1 block " in out
    assert entry.run(["ranks", "--results", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["losses"][0]["iqm"]["low"] is None


def diverge(store: Store, dataset: str, loss: str, seed: int) -> None:
    """A run that scored nothing, where one that did lay."""
    cell, record, _ = make_record(dataset=dataset, loss=loss, seed=seed, status="diverged")
    record.confusion[:] = 0
    store.write(cell, record, np.zeros((1, len(record.class_names), 3), int), ["a"])


def test_a_run_that_scored_nothing_ranks_its_loss_last(tmp_path) -> None:
    """And never improves it: left out, the seed would be gone for all losses."""
    store = Store(tmp_path)
    fill(store, datasets=3)
    before = ranking.rank(board(store))
    assert before.losses[0] == "lovasz_softmax"
    diverge(store, "set0", "lovasz_softmax", 1)
    found = ranking.rank(board(store))
    assert [len(values) for values in found.relative] == [3, 3, 3]
    lovasz = found.losses.index("lovasz_softmax")
    assert found.ranks[:, lovasz].tolist() == [4, 1, 1]
    assert math.isnan(found.iqm[lovasz].value)
    assert found.improvement[lovasz].value == pytest.approx(1 - 1 / 9)
    assert "Last in set0" in found.notes[0]
    assert "lovasz_softmax (1 of 3)" in found.notes[0]
    means = {row.label: row.describe("miou").mean for row in board(store)[0].rows}
    assert math.isnan(means["lovasz_softmax"])  # the leaderboard says the same
    others = [loss for loss in LOSSES if loss != "lovasz_softmax"]
    for loss in others:  # what others are worth does not change
        assert found.iqm[found.losses.index(loss)] == before.iqm[before.losses.index(loss)]


def test_a_run_that_scored_nothing_counts_on_any_seed(tmp_path) -> None:
    """Also on one that the other losses lack: the leaderboard has no mean of that loss either."""
    store = Store(tmp_path)
    fill(store, datasets=2)
    diverge(store, "set0", "lovasz_softmax", 7)
    found = ranking.rank(board(store))
    assert found.ranks[:, found.losses.index("lovasz_softmax")].tolist() == [4, 1]
    assert "lovasz_softmax (1 of 4)" in " ".join(found.notes)
    diverge(store, "set1", "ce", 7)
    assert len(ranking.rank(board(store)).blocks) == 1


def test_a_reference_that_scored_nothing_leaves_the_block_out(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, datasets=3)
    diverge(store, "set1", "ce", 0)
    found = ranking.rank(board(store))
    assert len(found.blocks) == 2
    assert "a run of the reference scored nothing: set1" in found.notes[0]


def test_a_choice_of_losses_keeps_the_reference(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, datasets=2)
    assert sorted(ranking.rank(board(store, loss="focal")).losses) == ["ce", "focal"]


def test_blocks_of_different_rules_are_refused(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, datasets=2)
    blocks = board(store)
    blocks[1].absent_class_rule = "zero"
    with pytest.raises(ConfigError, match=r"treat absent classes: set0 .* has 'excluded', set1 .* 'zero'"):
        ranking.rank(blocks)


def test_nothing_to_rank_is_said(tmp_path) -> None:
    store = Store(tmp_path)
    put(store, loss="focal")
    with pytest.raises(ConfigError, match="no block with runs"):
        ranking.rank(board(store))
    put(store, loss="ce")
    put(store, dataset="b", loss="ce")
    with pytest.raises(ConfigError, match="fewer than two losses"):
        ranking.rank(board(store))


@pytest.mark.parametrize("form", [[], ["-f", "markdown"], ["-f", "csv"], ["-f", "latex"], ["-f", "json"], ["--json"]])
def test_the_verb(tmp_path, monkeypatch, capsys, form: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    fill(Store(tmp_path), datasets=5)
    assert entry.run(["ranks", "--results", str(tmp_path), *form]) == 0
    out = capsys.readouterr().out
    assert out.count("lovasz") >= 1
    if "json" in form or "--json" in form:
        told = json.loads(out)
        assert told["critical_difference"] == pytest.approx(ranktests.critical_difference(4, 5))
        assert told["losses"][0]["loss"] == "lovasz_softmax"
    if not form:
        assert out.isascii()
        assert max(map(len, out.splitlines())) <= 80
    assert entry.run(["ranks", "--results", str(tmp_path), "--json", "-f", "csv"]) == 2


@pytest.mark.parametrize("kind", ["ranks", "profile"])
def test_figures(tmp_path, capsys, kind: str) -> None:
    fill(Store(tmp_path), datasets=5)
    file = tmp_path / f"{kind}.svg"
    assert entry.run(["figure", kind, "--results", str(tmp_path), "--output", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["records"]) == 60
    for loss in LOSSES:
        assert loss in file.read_text()
    fewer = ["figure", kind, "--results", str(tmp_path), "--dataset", "set[01]", "--output", str(file)]
    assert entry.run(fewer) == (2 if kind == "ranks" else 0)


def test_a_wide_terminal(tmp_path) -> None:
    fill(Store(tmp_path), datasets=2)
    console = Console(file=io.StringIO(), width=160)
    view.render(ranking.rank(board(Store(tmp_path))), console)
    assert "Over 2 blocks" in console.file.getvalue()
