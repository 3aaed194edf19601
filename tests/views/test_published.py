"""Published rows in every format: marked, with their source, and without any effect on the measured ones."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

import lossbench.published
from lossbench.leaderboard import build
from lossbench.published import MARK, attach, load
from lossbench.scoretable import table_of
from lossbench.store import Store
from lossbench.views import data, latex, markdown, published, terminal
from lossbench.views.grid import summary_grid
from tests.factories import put

SCORES = ("66.51", "76.33", "80.78", "77.86")


@pytest.fixture
def board(tmp_path):
    """(blocks without, blocks with published rows, tables that stand alone)."""
    store = Store(tmp_path)
    for loss, quality in (("ce", 0.70), ("cdfl", 0.75)):
        for seed in (0, 1):
            put(store, dataset="cityscapes", backbone="fcn_resnet50", loss=loss, seed=seed, quality=quality)
    records = store.read_all()[0]
    blocks = build(records)
    alone = attach(blocks, load())
    return build(records), blocks, alone


def drawn(blocks, alone=(), width=80):
    file = io.StringIO()
    console = Console(file=file, width=width)
    terminal.render(blocks, console)
    published.render(alone, console, after=bool(blocks))
    return file.getvalue()


def test_measured_rows_are_the_same_beside_published_ones(board):
    without, blocks, _ = board
    keys = ["miou", "delta", "macc", "mprecision", "mrecall", "tail_miou", "ms_per_step"]
    before, after = summary_grid(without[0], keys), summary_grid(blocks[0], keys)
    assert (after.headers, after.rows) == (before.headers, before.rows)
    assert blocks[0].best("mprecision") == without[0].best("mprecision")
    ((heading, lines),) = after.apart
    assert heading == "published, not re-run: Su et al. 2022"
    assert not any(entry.best or entry.spread for line in lines for entry in line)
    # loss, mIoU, difference, mAcc, mPrec, mRec, tail, ms: what the paper lacks is empty.
    assert [entry.text for entry in lines[0]] == ["cross-entropy †", "66.51", "", *SCORES[1:], "", ""]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_terminal_marks_them_and_fits(board, width):
    _, blocks, alone = board
    text = drawn(blocks, alone, width)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    assert flat.count("#: published, not re-run") == 2
    assert "10.1109/SDF55338.2022.9931700" in flat
    assert "Its protocol is not ours:" in flat
    assert "is named PASCAL VOC 2010" in flat
    assert "pascal_context / FCN (published, not re-run: Su et al. 2022)" in flat


def test_at_80_columns_all_four_scores_are_there_below_the_measured_ones(board):
    lines = drawn(board[1]).splitlines()
    (row,) = [line for line in lines if line.startswith("cross-entropy")]
    assert row.split() == ["cross-entropy", "#", *SCORES]
    header = next(line for line in lines if line.startswith("loss"))
    for name, score in zip(("mAcc", "mPrec", "mRec"), SCORES[1:], strict=True):
        assert row.index(score) + len(score) == header.index(name) + len(name)
    assert lines.index(row) > next(i for i, line in enumerate(lines) if line.startswith("ce "))


def test_markdown(board):
    _, blocks, alone = board
    text = markdown.render(blocks, published=alone)
    assert "| published, not re-run: Su et al. 2022 |" in text
    assert "### pascal_context / FCN (published, not re-run: Su et al. 2022)" in text
    (row,) = re.findall(r"^\| Lovász-softmax † \|.*57\.14.*$", text, re.MULTILINE)
    assert "**" not in row
    widths = {line.count("|") for line in text.split("\n\n")[1].splitlines()}
    assert len(widths) == 1


def test_latex(board):
    _, blocks, alone = board
    text = latex.render(blocks, published=alone)
    assert r"\textit{published, not re-run: Su et al. 2022}" in text
    assert r"cross-entropy $\dagger$ &  & 66.51 &  & 76.33" in text
    assert r"\label{tab:sdf55338.2022.9931700-ii}" in text
    assert "$$" not in text
    for row in re.findall(r"^(.* \\dagger.*|.*\$\\dagger\$ &.*)$", text, re.MULTILINE):
        assert "textbf" not in row


def test_csv_has_a_column_that_says_so(board):
    without, blocks, _ = board
    rows = list(csv.DictReader(io.StringIO(data.render_csv(blocks, published=load()))))
    plain = list(csv.DictReader(io.StringIO(data.render_csv(without))))
    assert [row["published"] for row in rows] == ["", "", *[MARK] * 8]
    assert [{k: v for k, v in row.items() if k not in ("published", "source")} for row in rows[:2]] == plain
    assert {row["source"].split(", doi")[0] for row in rows[2:]} == {
        f"J. Su, S. Anderson and L. S. Mihaylova, IEEE SDF 2022, table {number}" for number in ("I", "II")
    }
    assert [rows[2][key] for key in ("miou", "macc", "mprecision", "mrecall")] == list(SCORES)
    assert {rows[2][key] for key in ("n", "seeds", "delta", "mf1", "miou_sd", "ms_per_step")} == {""}


def test_json_has_a_list_of_its_own(board):
    without, blocks, _ = board
    loaded = json.loads(data.render_json(blocks, published=load()))
    tables = loaded.pop("published")
    assert loaded == json.loads(data.render_json(without))
    assert [table["status"] for table in tables] == [MARK, MARK]
    assert tables[0]["source"]["doi"] == "10.1109/SDF55338.2022.9931700"
    assert tables[0]["rows"][0] == {
        "loss": "cross-entropy",
        "name": "ce",
        "scores": {"miou": 66.51, "macc": 76.33, "mprecision": 80.78, "mrecall": 77.86},
    }


def test_without_published_there_is_no_trace(board):
    without = board[0]
    for text in (drawn(without), markdown.render(without), latex.render(without), data.render_csv(without)):
        assert "published" not in text
    assert "published" not in json.loads(data.render_json(without))


def test_json_has_the_digits_of_the_paper(tmp_path):
    file = Path(lossbench.published.__file__).with_name("su2022.json")
    printed = file.read_text(encoding="utf-8").replace("62.1,", "62.10,").replace("66.51", "76.30")
    (tmp_path / "a.json").write_text(printed, encoding="utf-8")
    text = data.render_json([], published=load(tmp_path))
    assert '"miou": 62.10,' in text
    row = table_of(text, "t").rows[0]
    assert row.means["miou"].text == "76.30"
    assert row.means["miou"].high - row.means["miou"].low == pytest.approx(0.01)
    assert json.loads(text)["published"][1]["dataset_params"] == {"background": False}
