from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from lossbench import bootstrap, leaderboard
from lossbench.equivalence import detectable, sensitivity
from lossbench.resampling import ask_bootstrap
from lossbench.significance import holm, sign_flip
from lossbench.store import Store
from lossbench.views import data, latex, markdown, significance, terminal
from lossbench.views.equivalence import detectable_line
from lossbench.views.grid import footer
from tests.factories import put, quickstart


@pytest.fixture
def block(tmp_path):
    quickstart(Store(tmp_path), seeds=range(7))
    table, _ = Store(tmp_path).runs()
    (made,) = leaderboard.build(table)
    return made


def printed(block, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    terminal.render([block], console)
    return console.file.getvalue()


def test_nothing_is_tested_unasked(block) -> None:
    assert all(row.significance is None and row.miou_interval is None for row in block.rows)
    text = printed(block)
    assert "p Holm" not in text
    assert "bootstrap" not in text
    assert "Minimum detectable difference" in text


def test_columns_are_the_tests_over_seeds(block) -> None:
    block.ask_significance("permutation")
    tested = [row for row in block.rows if not row.is_reference]
    ps = [sign_flip(row.differences) for row in tested]
    assert [row.significance.p for row in tested] == ps
    assert [row.significance.p_holm for row in tested] == holm(ps)
    assert next(row for row in block.rows if row.is_reference).significance is None
    text = printed(block)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    head = next(line for line in text.splitlines() if line.startswith("loss"))
    assert head.index("diff") < head.index(" p ") < head.index("p Holm")
    assert "p Holm" in markdown.render([block])
    assert "p Holm" in latex.render([block])
    assert f"corrected for all {len(tested)} rows tested (Holm" in " ".join(footer(block))


def test_what_could_be_found_is_said_by_the_corrected_test_too(block) -> None:
    (plain,) = detectable_line(block)
    block.ask_significance("t")
    (line,) = detectable_line(block)
    tests = [row.delta for row in block.rows if row.delta is not None]
    at = re.fullmatch(re.escape(plain) + r" At 0\.05 / (\d+), .* smallest p: (.*) points\.", line)
    assert int(at[1]) == len(tests)
    assert float(at[2]) == pytest.approx(detectable(sensitivity(tests).sd, 7, alpha=0.05 / len(tests)), rel=0.01)


def test_few_seeds_are_told_what_they_cannot_reach(tmp_path) -> None:
    quickstart(Store(tmp_path), seeds=range(3))
    (block,) = leaderboard.build(Store(tmp_path).runs()[0])
    rows = sum(not row.is_reference for row in block.rows)
    (line,) = significance.reach(block)
    assert line.startswith("With 3 paired seeds no permutation or Wilcoxon test reaches p = 0.05 (at best 0.25)")
    assert f"for {rows} rows" in line
    assert line in footer(block)


def test_many_rows_are_told_what_their_test_cannot_reach(block) -> None:
    assert significance.reach(block) == []
    block.ask_significance("wilcoxon")
    rows = sum(row.significance is not None for row in block.rows)
    (line,) = significance.reach(block)
    assert f"no row of {rows} can reach" in line


def test_the_correction_does_not_depend_on_the_rows_shown(block, tmp_path) -> None:
    """Rows chosen after a look at the table were all looked at."""
    (some,) = leaderboard.build(Store(tmp_path).runs()[0], loss="focal|df")
    some.ask_significance("permutation")
    block.ask_significance("permutation")
    corrected = {row.label: row.significance for row in block.rows}
    assert [row.label for row in some.rows] == ["focal", "df"]
    assert all(row.significance == corrected[row.label] for row in some.rows)
    assert f"corrected for all {len(block.rows) - 1} rows tested, shown here or not" in " ".join(footer(some))
    assert significance.reach(some) == significance.reach(block)
    assert "--loss" not in " ".join(footer(some))


def test_one_row_is_one_row(tmp_path) -> None:
    quickstart(Store(tmp_path), seeds=range(3))
    for file in Store(tmp_path).records_dir.rglob("*.json"):
        if not file.name.startswith(("ce-", "focal-")):
            file.unlink()
    (two,) = leaderboard.build(Store(tmp_path).runs()[0])
    two.ask_significance("t")
    assert "corrected for the one row tested (Holm" in " ".join(footer(two))


def test_bootstrap_columns(block) -> None:
    ask_bootstrap(block, 300)
    reference = next(row for row in block.rows if row.is_reference)
    assert reference.delta_interval is None
    for row in block.rows:
        assert row.miou_interval.low <= row.value("miou") <= row.miou_interval.high
        if row is not reference:
            assert row.delta_interval.low < row.delta_interval.high
    assert "+" in printed(block, 160)
    assert "the same images for all losses" in " ".join(footer(block))


def test_a_difference_is_taken_on_the_same_images_and_seeds(block) -> None:
    ask_bootstrap(block, 200)
    row = next(row for row in block.rows if not row.is_reference)
    own, theirs = (
        bootstrap.resampled_miou(
            np.stack([np.load(r.runs.table.path(i).with_suffix(".npz"))["counts"] for i in r.runs.rows]), 200
        )
        for r in (row, row.reference)
    )
    images = row.miou_interval.images
    assert row.delta_interval == bootstrap.interval(own - theirs, images)


def test_a_row_with_a_run_without_counts_has_no_interval_and_is_named(block) -> None:
    """Of three seeds one, two would stay: an interval of others than those of the mean beside it."""
    row = next(row for row in block.rows if not row.is_reference)
    for place in row.runs.rows[:6]:
        row.runs.table.path(int(place)).with_suffix(".npz").unlink()
    ask_bootstrap(block, 200)
    assert row.miou_interval is None
    assert row.delta_interval is None
    assert any(f"{row.label} (1 of 7 have them)" in note for note in block.notes)
    assert all(other.miou_interval.seeds == 7 for other in block.rows if other is not row)
    assert json.loads(data.render_json([block]))["blocks"][0]["rows"][block.rows.index(row)]["bootstrap"] == {
        "miou": None,
        "delta": None,
    }


def test_without_the_references_counts_there_is_no_interval_of_differences(block) -> None:
    reference = next(row for row in block.rows if row.is_reference)
    reference.runs.table.path(int(reference.runs.rows[0])).with_suffix(".npz").unlink()
    ask_bootstrap(block, 200)
    assert all(row.delta_interval is None for row in block.rows)
    assert all((row.miou_interval is None) == (row is reference) for row in block.rows)


def test_seeds_that_the_reference_lacks_do_not_hide_the_difference(tmp_path) -> None:
    quickstart(Store(tmp_path), seeds=range(3))
    put(Store(tmp_path), loss="focal", seed=9, quality=0.8)
    (made,) = leaderboard.build(Store(tmp_path).runs()[0])
    ask_bootstrap(made, 200)
    row = next(row for row in made.rows if row.label == "focal")
    assert (row.miou_interval.seeds, row.delta_interval.seeds) == (4, 3)


def test_runs_on_other_images_count_as_without(block) -> None:
    row = next(row for row in block.rows if not row.is_reference)
    file = row.runs.table.path(int(row.runs.rows[0])).with_suffix(".npz")
    with np.load(file) as old:
        counts, names = old["counts"], old["names"]
    np.savez(file, counts=counts, names=np.array([f"other {name}" for name in names]))
    ask_bootstrap(block, 200)
    assert row.miou_interval is None
    assert any(f"{row.label} (6 of 7 have them)" in note for note in block.notes)


@pytest.mark.parametrize(("seeds", "more"), [(1, 0), (1, 7), (3, 0), (3, 7), (7, 0)])
def test_the_note_tells_of_all_rows(tmp_path, seeds: int, more: int) -> None:
    """Not of the first alone, which is the best."""
    quickstart(Store(tmp_path), seeds=range(seeds))
    for seed in range(seeds, more):
        put(Store(tmp_path), loss="lovasz_softmax", seed=seed, quality=0.83)
    (made,) = leaderboard.build(Store(tmp_path).runs()[0])
    ask_bootstrap(made, 200)
    (said,) = [line for line in significance.note(made) if line.startswith("Bootstrap")]
    assert ("of the seeds" in said) == (max(seeds, more) > 1)
    assert ("of the images only: how far" in said) == (seeds == 1)
    assert ("Fewer than 6 seeds" in said) == (seeds < 6 and max(seeds, more) > 1)
    assert ("as some rows have" in said) == (seeds < 6 <= more)


def test_no_counts_at_all(block) -> None:
    for row in block.rows:
        for place in row.runs.rows:
            row.runs.table.path(int(place)).with_suffix(".npz").unlink()
    ask_bootstrap(block, 200)
    assert "No run has per-image counts: there is no bootstrap interval." in block.notes


def test_machines_get_all_digits(block) -> None:
    block.ask_significance("t")
    ask_bootstrap(block, 200)
    rows = json.loads(data.render_json([block]))["blocks"][0]["rows"]
    lines = list(csv.DictReader(io.StringIO(data.render_csv([block]))))
    for row, made, line in zip(block.rows, rows, lines, strict=True):
        assert made["bootstrap"]["miou"]["low"] == row.miou_interval.low
        assert float(line["miou_boot_low"]) == pytest.approx(row.miou_interval.low, rel=1e-5)
        if row.is_reference:
            assert made["significance"] is None
            assert line["p"] == ""
        else:
            assert made["significance"]["p_holm"] == row.significance.p_holm
            assert float(line["p_holm"]) == pytest.approx(row.significance.p_holm, rel=1e-5)
