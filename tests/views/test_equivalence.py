"""The tests on differences in tables: what is printed is what equivalence.py says."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from lossbench.equivalence import detectable, t_test, tost
from lossbench.leaderboard import build
from lossbench.statistics import median
from lossbench.store import Store
from lossbench.views import data, equivalence, markdown, terminal
from lossbench.views.grid import TESTS, entry, footer
from tests.factories import put, quickstart

MARGIN = 0.3


@pytest.fixture
def store(tmp_path):
    quickstart(Store(tmp_path))
    return Store(tmp_path)


def blocks_of(store, margin=MARGIN, **options):
    blocks = build(store.read_all()[0], **options)
    for block in blocks:
        block.ask_tests(margin)
    return blocks


def text_of(blocks, width=80):
    file = io.StringIO()
    terminal.render(blocks, Console(file=file, width=width))
    return file.getvalue()


def differences(row):
    ours, reference = row.by_seed("miou"), row.reference.by_seed("miou")
    return [ours[seed] - reference[seed] for seed in ours]


def test_the_row_is_tested_on_its_differences(store):
    (block,) = blocks_of(store)
    for row in block.rows:
        if row.is_reference:
            assert row.tested is None
            continue
        assert row.tested.p_difference == pytest.approx(t_test(differences(row)))
        assert row.tested.p_equivalence == pytest.approx(tost(differences(row), MARGIN))
    (plain,) = build(store.read_all()[0])
    assert all(row.tested is None for row in plain.rows)


def test_at_80_columns_the_verdict_is_there(store):
    (block,) = blocks_of(store)
    text = text_of([block])
    heading = next(line for line in text.splitlines() if line.startswith("loss"))
    assert re.search(r"mIoU +diff ce +p diff +p equiv +verdict", heading)
    assert max(map(len, text.splitlines())) <= 80
    for row in block.rows:
        (line,) = [x for x in text.splitlines() if x.startswith(f"{row.label} ")]
        printed = [entry(key, row, None).text for key in TESTS]
        assert all(word in line for word in printed)


def test_a_small_p_is_not_printed_as_zero(store):
    (block,) = blocks_of(store, margin=1000.0)
    row = next(row for row in block.rows if row.label == "df")
    assert row.tested.p_equivalence < 0.0005
    assert equivalence.entry("p_equivalence", row).text == "<0.001"


def test_the_note_says_what_could_have_been_found(store):
    (block,) = blocks_of(store)
    sds = [row.delta.sd for row in block.rows if not row.is_reference]
    sd = median(np.array(sds))
    note = equivalence.note(block)
    assert "within ±0.3 points" in note
    (line,) = equivalence.detectable_line(block)
    assert f"difference: {equivalence._points(detectable(sd, 3))} points: a smaller one is found less than 4" in line
    assert f"with 3 seeds and the median sd of the differences, {equivalence._points(sd)} (" in line
    assert line in footer(block)
    assert "No correction for many comparisons" in note
    assert json.loads(data.render_json([block]))["blocks"][0]["tests"]["detectable"] == pytest.approx(detectable(sd, 3))


def test_single_seeds_are_not_tested(tmp_path):
    quickstart(Store(tmp_path), seeds=(0,))
    (block,) = blocks_of(Store(tmp_path))
    assert all(row.tested is None for row in block.rows)
    assert "no difference is tested" in equivalence.note(block)
    made = json.loads(data.render_json([block]))["blocks"][0]
    assert made["tests"]["detectable"] is None
    assert all(row["tested"] is None for row in made["rows"])
    assert "| - | - | - |" in markdown.render([block])


def test_without_the_reference_there_is_nothing_to_test(tmp_path):
    for seed in (0, 1):
        put(Store(tmp_path), loss="focal", seed=seed)
    (block,) = blocks_of(Store(tmp_path))
    for text in (text_of([block]), markdown.render([block])):
        assert "p diff" not in text
        assert "verdict" not in text
