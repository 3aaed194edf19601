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

from lossbench import leaderboard, ranking
from lossbench.cli import main as entry
from lossbench.errors import ConfigError
from lossbench.store import Store
from lossbench.views import ranking as view
from tests.factories import put

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


def test_friedman_is_iman_and_davenports_of_scipys_statistic() -> None:
    means = np.random.default_rng(3).normal(50, 2, (7, 5))
    chi = scipy.stats.friedmanchisquare(*np.round(means, 2).T).statistic
    f = 6 * chi / (7 * 4 - chi)
    assert ranking.friedman(means) == pytest.approx(scipy.stats.f.sf(f, 4, 24))
    assert ranking.friedman(np.tile(np.arange(4.0), (5, 1))) == 0
    assert ranking.friedman(np.ones((5, 4))) == 1
    assert ranking.friedman(means[:1]) is None


def test_critical_difference_is_that_of_demsars_table() -> None:
    # Demšar 2006, table 5a: q at 0.05 for 4 and 10 classifiers; his example of 4 over 14 data sets has 1.25.
    assert ranking.critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    for losses, q in ((2, 1.960), (4, 2.569), (10, 3.164)):
        assert ranking.critical_difference(losses, 1) / math.sqrt(losses * (losses + 1) / 6) == pytest.approx(
            q, abs=2e-3
        )


def test_interquartile_mean_is_scipys_trimmed_mean() -> None:
    values = np.random.default_rng(0).normal(size=(5, 23))
    assert ranking.interquartile_mean(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25, axis=1))


def test_probability_of_improvement_is_mann_whitneys() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = generator.integers(0, 5, 7).astype(float), generator.integers(0, 5, 4).astype(float)
    u = scipy.stats.mannwhitneyu(ours, theirs).statistic
    assert ranking.probability_of_improvement(ours, theirs) == pytest.approx(u / 28)


def test_the_profile_counts_runs_above_each_level() -> None:
    relative = [np.array([[90.0, 100.0], [110.0, 100.0]]), np.array([[105.0, 95.0]])]
    profile = ranking.performance_profile(relative, np.array([89.0, 99.0, 100.0, 104.0]))
    assert profile.tolist() == [[1.0, 0.75, 0.75, 0.75], [1.0, 0.5, 0.0, 0.0]]


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
    for loss, seed in (("ce", 0), ("balanced_ce", 1), ("focal", 0), ("lovasz_softmax", 0)):
        put(store, dataset="apart", loss=loss, seed=seed, quality=0.7)
    found = ranking.rank(board(store))
    assert len(found.blocks) == 5
    notes = " ".join(found.notes)
    assert "dice (1 of 6 blocks)" in notes
    assert "not the usual protocol of its dataset and backbone: set1 / fcn_timm" in notes
    assert "no run of the reference: other" in notes
    assert "share no seed: apart" in notes


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


@pytest.mark.parametrize("form", [[], ["-f", "markdown"], ["-f", "csv"], ["-f", "latex"], ["--json"]])
def test_the_verb(tmp_path, monkeypatch, capsys, form: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    fill(Store(tmp_path), datasets=5)
    assert entry.run(["ranks", "--results", str(tmp_path), *form]) == 0
    out = capsys.readouterr().out
    assert out.count("lovasz") >= 1
    if form == ["--json"]:
        told = json.loads(out)
        assert told["critical_difference"] == pytest.approx(ranking.critical_difference(4, 5))
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
