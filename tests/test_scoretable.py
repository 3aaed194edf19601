"""Reading tables of scores: spellings, digits, units, shapes, and what is wrong with a file."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.audit import check_row
from lossbench.errors import ConfigError
from lossbench.leaderboard import build, run_rows
from lossbench.published import load
from lossbench.scoretable import of_published, read_table, table_of
from lossbench.store import Store
from lossbench.views import data
from tests.factories import put, quickstart


def only(text):
    (row,) = table_of(text, "t").rows
    return row


SPELLINGS = {
    "miou": "mIoU; miou; mIoU (%); mIoU [%]; Mean IoU; IoU; mean_iou; iou_mean; Jaccard",
    "macc": "mAcc; mean accuracy; Mean Class Accuracy; acc.average",
    "mprecision": "mPre; mPrec; mPrecision; Precision; precision_macro",
    "mrecall": "mRec; mRecall; Recall ↑",
    "mf1": "mF1; macro F1; mDice; mFscore; F1-score",
    "pixel_accuracy": "aAcc; pixAcc; pixel_accuracy; Overall Accuracy",
    "fwiou": "fwIoU; Frequency Weighted IoU",
    "image_miou": "mIoU/img; image_miou",
    "image_mf1": "mF1/img; image_mf1",
}


@pytest.mark.parametrize(
    ("key", "name"), [(key, name) for key, names in SPELLINGS.items() for name in names.split("; ")]
)
def test_spellings_of_means(key, name):
    assert list(only(f"loss,{name}\nce,50\n").means) == [key]


@pytest.mark.parametrize(
    "name", ["iou:road sign", "iou_road sign", "IoU.road sign", "IoU (road sign)", "IoU/road sign"]
)
def test_spellings_of_classes(name):
    assert list(only(f"loss,{name}\nce,50\n").classes) == ["road sign"]


@pytest.mark.parametrize("name", ["acc", "miou_sd", "iou_sd", "params", "delta", "ms_per_step", "seed", "dice loss"])
def test_what_is_no_score_is_left_alone(name):
    row = only(f"loss,mIoU,{name}\nce,50,ImageNet\n" if name == "dice loss" else f"loss,mIoU,{name}\nce,50,999\n")
    assert list(row.means) == ["miou"]
    assert not row.classes


@pytest.mark.parametrize(
    ("cell", "value", "low", "averaged"),
    [
        ("66.5", 66.5, 66.45, False),
        ("66.50", 66.5, 66.495, False),
        ("66", 66, 65.5, False),
        ("66.5 %", 66.5, 66.45, False),
        ("**66.5**", 66.5, 66.45, False),
        ("66.5*", 66.5, 66.45, False),
        ("66.5 ± 0.3", 66.5, 66.45, True),
        ("66.5+-0.3", 66.5, 66.45, True),
        ("66.5 (0.3)", 66.5, 66.45, True),
        ("4.5e1", 45, 44.5, False),
    ],
)
def test_cells(cell, value, low, averaged):
    row = only(f"loss,mIoU\nce,{cell}\n")
    assert row.means["miou"].value == pytest.approx(value)
    assert row.means["miou"].low == pytest.approx(low)
    assert row.averaged is averaged


@settings(deadline=None)
@given(st.decimals(0, 100, places=3))
def test_a_number_stands_for_what_prints_like_it(number):
    score = only(f"loss,mIoU\nce,{number}\n").means["miou"]
    scale = 100 if 0 < number <= 1 else 1
    assert score.value == pytest.approx(float(number) * scale)
    assert score.high - score.low == pytest.approx(0.001 * scale)


@pytest.mark.parametrize("cell", ["", "-", "–", "n/a", "nan", "None"])
def test_missing_cells(cell):
    assert list(only(f"loss,mIoU,mAcc\nce,50,{cell}\n").means) == ["miou"]


def test_fractions_are_read_as_percent():
    table = table_of("loss,mIoU,mAcc\nce,0.665,0.7\n", "t")
    assert table.rows[0].means["miou"].value == pytest.approx(66.5)
    assert table.rows[0].means["miou"].high == pytest.approx(66.55)
    assert table.rows[0].means["miou"].text == "66.5"
    assert table.notes == ["Read as fractions: shown in percent."]


def test_a_row_of_fractions_among_percentages_is_noted():
    assert table_of("loss,mIoU,mAcc\nce,66.5,70\ndf,0.6,0.7\n", "t").notes == [
        "df: no score is above 1: fractions among percentages?"
    ]


def test_semicolons_and_decimal_commas():
    assert only("loss;mIoU\nce;66,51\n").means["miou"].value == 66.51


def test_one_line_per_class():
    table = table_of(
        "method,Class,IoU,Acc,Precision,F1\na,road,90,95,94.48,94.74\na,car,50,60,75,66.67\na,mean,70,77.5,,80.7\n"
        "b,road,80,,,\n",
        "t",
    )
    first, second = table.rows
    assert first.label == "a"
    assert sorted(first.classes) == ["car", "road"]
    assert first.classes["car"]["accuracy"].value == 60
    assert sorted(first.means) == ["macc", "mf1", "miou"]
    assert list(second.classes) == ["road"]
    assert all(check.holds for check in check_row(first))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("loss,mIoU\nce,1.5\ndf,2\n", ["ce", "df"]),
        ("method,backbone,mIoU\na,x,1.5\na,y,2\n", ["a / x", "a / y"]),
        ("dataset,loss,backbone,seed,mIoU\nd,a,x,0,1.5\nd,a,x,1,2\n", ["a / 0", "a / 1"]),
        ("what,mIoU\nours,1.5\nours,2\n", ["ours (row 1)", "ours (row 2)"]),
        ("mIoU,mAcc\n1.5,2\n3,4\n", ["row 1", "row 2"]),
    ],
)
def test_rows_are_named_by_what_tells_them_apart(text, labels):
    assert [row.label for row in table_of(text, "t").rows] == labels


@pytest.mark.parametrize("n", [1, 2])
def test_n_says_whether_a_row_is_a_mean_over_seeds(n):
    assert only(f"loss,n,iou:car\nce,{n},50\n").averaged is (n > 1)
    assert only(f"loss,n,iou:car,miou_sd\nce,{n},50,0.1\n").averaged
    assert only(json.dumps([{"loss": "ce", "n": n, "iou:car": 50}])).averaged is (n > 1)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("loss,params\nce,3\n", "t has no column of scores: loss, params", "mIoU, mAcc"),
        ("loss,mIoU\n", "t holds no table", "a line of column names"),
        ("", "t holds no table", None),
        ("loss,mIoU\nce,high\n", "t, row 1, column 'mIoU': 'high' is no score", "leave a cell empty"),
        ("loss,mIoU\nce,inf\n", "'inf' is no score", None),
        ("loss,mIoU,Mean IoU\nce,1,2\n", "the columns 'mIoU' and 'Mean IoU' are the same score", "leave out one"),
        ("loss,mIoU,mIoU\nce,1,2\n", "two columns are called 'mIoU'", None),
        ("loss,mIoU\nce,1,2\n", "row 2 has 3 cells for 2 columns", None),
        ("loss,mIoU\nce,\n", "t has score columns, but no score", None),
        ("{", "t is not valid JSON", None),
        ("{}", "t holds no table of scores", "leaderboard --json"),
        ('{"confusion": []}', "t holds no table of scores", "--results"),
        ("[1]", "t holds no table of scores", None),
        ('[{"mIoU": true}]', "'True' is no score", None),
        ("loss,mIoU\nce,1e400\n", "t, row 1, column 'mIoU': '1e400' is too large for a score", "at most 100"),
        ("loss,mIoU\nce,-1e999\n", "'-1e999' is too large", None),
        ("loss,mIoU\nce,0e999999\n", "'0e999999' is too large", None),
        ("loss,mIoU\nce,1e99999999999999999999\n", "is beyond all bounds", None),
        ("loss,mIoU\nce,1000001\n", "'1000001' is too large", None),
        ("loss,mIoU\nce," + "1" * 100_000 + "x\n", "111...' is no score", None),
        ('loss,mIoU\nce,"' + "1" * 200_000 + '"\n', "t: not a CSV, up to line 2 (field larger", "quote"),
        ('[{"mIoU": 1e999999999}]', "'1E+999999999' is too large", None),
        ('[{"mIoU": 1e99999999999999999999}]', "t holds a number beyond all bounds", "0 to 100"),
        ('[{"mIoU": {"x": 3}}]', "is no score", None),
        ('{"blocks": [1]}', "t: blocks[0] is no object", "leaderboard --json"),
        ('{"blocks": [{"rows": 3}]}', "t: blocks[0].rows is no list", None),
        ('{"blocks": [{"rows": [3]}]}', "t: blocks[0].rows[0] is no object", None),
        ('{"blocks": [], "published": 3}', "t: published is no list", None),
        ('{"blocks": [], "published": [{"rows": {}}]}', "t: published[0].rows is no list", None),
        ('{"blocks": [{"rows": [{"scores": 3}]}]}', "t: blocks[0].rows[0].scores is no object", None),
        ('{"blocks": [{"rows": [{"iou": []}]}]}', "t: blocks[0].rows[0].iou is no object", None),
        ('{"blocks": [{"rows": [{"scores": {"miou": {"x": 3}}}]}]}', "rows[0].scores.miou has no 'mean'", None),
        ('{"blocks": [{"rows": [{"scores": {"miou": {"mean": []}}}]}]}', "'[]' is no score", None),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text, message, hint):
    with pytest.raises(ConfigError) as error:
        table_of(text, "t")
    assert message in error.value.message
    assert "\n" not in error.value.message
    if hint:
        assert hint in (error.value.hint or "")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\xd8"])
def test_files_that_cannot_be_read(tmp_path, content):
    file = tmp_path / "a.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.csv"):
        read_table(file)
    with pytest.raises(ConfigError, match="cannot read"):
        read_table(tmp_path)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("results"))
    quickstart(store)
    put(store, dataset="camvid", loss="focal", quality=0.02)
    put(store, dataset="camvid", loss="ce", quality=1.0)
    return store


@pytest.mark.parametrize("form", ["csv", "json", "runs"])
def test_our_own_exports_are_possible(board, form):
    records = board.read_all()[0]
    text = {
        "csv": lambda: data.render_csv(build(records), per_class=True),
        "json": lambda: data.render_json(build(records)),
        "runs": lambda: data.csv_text(run_rows(records)),
    }[form]()
    table = table_of(text, form)
    assert len(table.rows) == (20 if form == "runs" else 8)
    assert len({row.label for row in table.rows}) == len(table.rows)
    assert all(len(row.classes) == 8 and "image_mf1" in row.means for row in table.rows)
    assert sum(row.averaged for row in table.rows) == (0 if form == "runs" else 6)
    checks = [check for row in table.rows for check in check_row(row)]
    assert [check for check in checks if not check.holds] == []
    assert {check.rule for check in checks} >= {"accuracy", "iou_most", "mf1_most", "class_mean", "fwiou"}


def test_our_own_json_with_published_rows(board):
    text = data.render_json(build(board.read_all()[0]), published=load())
    rows = table_of(text, "t").rows
    assert len(rows) == 16
    wrong = {row.label for row in rows if any(not check.holds for check in check_row(row))}
    assert len(wrong) == 6
    assert "Lovász-softmax / pascal_context" in wrong


def test_the_published_tables_have_six_rows_of_eight_that_cannot_be():
    found = {}
    for table in map(of_published, load()):
        for row in table.rows:
            found[table.title.split("(")[0], row.label] = [
                (check.rule, round(check.off, 2)) for check in check_row(row) if not check.holds
            ]
    one, two = "Su et al. 2022, table I ", "Su et al. 2022, table II "
    assert found == {
        (one, "cross-entropy"): [("accuracy", 1.53)],
        (one, "focal"): [("accuracy", 1.72)],
        (one, "Lovász-softmax"): [],
        (one, "CDFL"): [("accuracy", 1.70)],
        (two, "cross-entropy"): [("accuracy", 0.62)],
        (two, "focal"): [("accuracy", 5.17)],
        (two, "Lovász-softmax"): [("accuracy", 0.92)],
        (two, "CDFL"): [],
    }


def test_a_file_with_a_byte_order_mark(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes("\ufeffloss,mIoU\nce,50\n".encode())
    assert read_table(tmp_path / "a.csv").rows[0].label == "ce"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(end):
    rows = table_of(end.join(["loss;mIoU", "ce;50", "df;60", ""]), "t").rows
    assert [(row.label, row.means["miou"].value) for row in rows] == [("ce", 50), ("df", 60)]


@pytest.mark.parametrize("number", ["1e-999999999", "0." + "0" * 90 + "1"])
def test_a_number_next_to_nothing(number):
    assert only(f"loss,mIoU,mAcc\nce,{number},50\n").means["miou"].value == pytest.approx(0)


@pytest.mark.parametrize("n", ["²", "9" * 5000, "0", "two"])
def test_an_odd_number_of_seeds(n):
    assert only(f"loss,n,mIoU\nce,{n},50\n").averaged is (n[0] == "9")


def test_columns_that_are_no_score_may_hold_any_number():
    assert only("FLOPs,what,mIoU\n45000000000,ours,50\n").label == "ours"


_KEYS = st.sampled_from(["blocks", "rows", "published", "scores", "iou", "miou", "mean", "loss", "n", "unit", "class"])
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from([0.5, 50, "60.5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(_ANY) | st.dictionaries(_KEYS, _ANY) | st.builds(lambda rows: {"blocks": [{"rows": rows}]}, st.lists(_ANY))
)
def test_json_of_any_shape_is_a_table_or_a_clear_error(data):
    with suppress(ConfigError):
        for row in table_of(json.dumps(data), "t").rows:
            list(check_row(row))
