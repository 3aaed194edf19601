"""Published tables: the numbers of the paper, what is refused, and where they are shown."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from pathlib import Path

import pytest

import lossbench.published as published
from lossbench.errors import ConfigError
from lossbench.leaderboard import build
from lossbench.published import attach, load, select
from lossbench.registry import Registry
from lossbench.store import Store
from tests.factories import put

FILE = Path(published.__file__).with_name("su2022.json")
#: As a reader types them off the paper: mIoU, mAcc, mPre, mRec.
PAPER = {
    "cityscapes": {
        "cross-entropy": "66.51 76.33 80.78 77.86",
        "focal": "62.1 74.47 79.25 72.75",
        "Lovász-softmax": "57.14 70.51 75.22 70.51",
        "CDFL": "66.62 76.41 81.23 78.11",
    },
    "pascal_context": {
        "cross-entropy": "66.72 76.85 80.32 76.23",
        "focal": "62.45 75.74 76.45 70.57",
        "Lovász-softmax": "59.43 64.16 69.56 63.24",
        "CDFL": "67.74 79.63 81.85 79.63",
    },
}


def test_the_numbers_and_digits_of_the_paper():
    found = {
        table.dataset: {row.loss: " ".join(map(str, row.scores.values())) for row in table.rows} for table in load()
    }
    assert found == PAPER
    assert {tuple(row.scores) for table in load() for row in table.rows} == {("miou", "macc", "mprecision", "mrecall")}


def test_the_source_is_whole_and_the_second_tables_name_is_explained():
    one, two = load()
    assert one.source == two.source
    assert one.reference == (
        "J. Su, S. Anderson and L. S. Mihaylova, IEEE SDF 2022, table I, doi 10.1109/SDF55338.2022.9931700"
    )
    assert two.stated_dataset == "PASCAL VOC 2010"
    assert "PASCAL-Context" in two.remarks[0]


def test_names_are_registered_ones():
    losses, backbones = Registry("loss").names(), Registry("backbone").names()
    for table in load():
        assert {row.name for row in table.rows} <= set(losses)
        assert set(table.backbones) <= set(backbones)


def _set(place, value):
    def change(data):
        *path, last = place
        for key in path:
            data = data[key]
        if value is None:
            del data[last]
        else:
            data[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_set(("tables", 0, "rows", 1, "scores", "miou"), 166.5), "tables.0.rows.1.scores.miou"),
        (_set(("tables", 0, "rows", 1, "scores", "miou"), "much"), "tables.0.rows.1.scores.miou"),
        (_set(("tables", 0, "rows", 0, "scores", "mIoU"), 66.5), "tables.0.rows.0.scores.mIoU"),
        (_set(("tables", 0, "rows", 0, "scores"), {}), "tables.0.rows.0.scores"),
        (_set(("tables", 0, "rows"), []), "tables.0.rows"),
        (_set(("tables", 0, "page"), 3), "tables.0.page"),
        (_set(("tables", 0, "dataset"), None), "tables.0.dataset"),
        (_set(("source", "doi"), "doi.org/10.1/x"), "source.doi"),
        (_set(("source", "year"), 22), "source.year"),
        (_set(("source", "authors"), []), "source.authors"),
        (_set(("source",), None), "source"),
        (_set(("tables",), []), "tables"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, where):
    data = copy.deepcopy(json.loads(FILE.read_text(encoding="utf-8")))
    change(data)
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError) as error:
        load(tmp_path)
    assert f"a.json: {where}: " in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize("text", ["{", "", '{"a": '])
def test_a_broken_file(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.json"):
        load(tmp_path)


def test_trailing_zeros_stay(tmp_path):
    (tmp_path / "a.json").write_text(FILE.read_text(encoding="utf-8").replace("62.1,", "62.10,"))
    assert str(load(tmp_path)[0].rows[1].scores["miou"]) == "62.10"
    assert load(tmp_path)[0].rows[1].scores["miou"] == Decimal("62.1")


@pytest.mark.parametrize(
    ("patterns", "tables", "rows"),
    [
        ({}, ["I", "II"], 4),
        ({"dataset": "cityscapes"}, ["I"], 4),
        ({"dataset": "pascal_context"}, ["II"], 4),
        ({"dataset": "pascal_context(background=true)"}, ["II"], 4),
        ({"dataset": "voc2010"}, ["II"], 4),
        ({"dataset": "PASCAL VOC*"}, ["II"], 4),
        ({"dataset": "camvid"}, [], 0),
        ({"backbone": "FCN"}, ["I", "II"], 4),
        ({"backbone": "fcn_resnet50"}, ["I", "II"], 4),
        ({"backbone": "unet"}, [], 0),
        ({"loss": "ce"}, ["I", "II"], 1),
        ({"loss": "cross-*"}, ["I", "II"], 1),
        ({"loss": "dice"}, [], 0),
    ],
)
def test_select(patterns, tables, rows):
    found = select(load(), **patterns)
    assert [table.table for table in found] == tables
    assert {len(table.rows) for table in found} == ({rows} if tables else set())


def test_a_table_stands_beside_the_blocks_of_its_dataset_and_family(tmp_path):
    store = Store(tmp_path)
    for dataset, backbone in (("cityscapes", "fcn_resnet50"), ("cityscapes", "unet"), ("voc2010", "fcn_resnet50")):
        put(store, dataset=dataset, backbone=backbone)
    blocks = build(store.read_all()[0])
    alone = attach(blocks, load())
    assert [table.dataset for table in alone] == ["pascal_context"]  # never beside the 21 classes of voc2010
    assert {(b.dataset_name, b.backbone_name): [t.table for t in b.published] for b in blocks} == {
        ("cityscapes", "fcn_resnet50"): ["I"],
        ("cityscapes", "unet"): [],
        ("voc2010", "fcn_resnet50"): [],
    }


def test_parameters_are_those_the_dataset_has_by_default():
    datasets = Registry("dataset")
    for table in load():
        assert table.dataset_params == datasets.get(table.dataset).resolve({})


@pytest.mark.parametrize(
    ("params", "split", "beside"),
    [
        ({"background": False}, "val", True),
        ({"background": True}, "val", False),
        ({"background": False}, "train", False),
    ],
)
def test_other_classes_or_another_split_are_no_company(tmp_path, params, split, beside):
    store = Store(tmp_path)
    put(store, dataset="pascal_context", backbone="fcn_resnet50", dataset_params=params, protocol={"eval_split": split})
    (block,) = build(store.read_all()[0])
    alone = attach([block], load())
    assert [table.table for table in block.published] == (["II"] if beside else [])
    assert [table.table for table in alone] == (["I"] if beside else ["I", "II"])
