"""records.py: what goes in comes out; what is no record is refused in one line; old files stay readable."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from lossbench import finescores, metrics
from lossbench.errors import RecordError
from lossbench.records import SCHEMA, NewerSchemaError, Record
from tests.factories import make_record

GOLDEN = Path(__file__).parent / "golden"


def test_round_trip():
    _, record, _ = make_record(loss="cdfl", params={"omega": 0.01}, notes=("a remark",))
    again = Record.from_json(record.to_json())
    assert (again.confusion == record.confusion).all()
    assert again.confusion.dtype == np.int64
    for name in ("cell", "labels", "status", "class_names", "train_pixels", "curve", "costs", "provenance", "notes"):
        assert getattr(again, name) == getattr(record, name), name
    assert again.id == record.id
    assert again.to_json() == record.to_json()


def test_the_file_is_json_for_any_reader_and_one_row_a_line():
    _, record, _ = make_record()
    data = json.loads(record.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert data["confusion"] == record.confusion.tolist()
    lines = [line.strip().rstrip(",") for line in record.to_json().splitlines()]
    assert all(json.dumps(row) in lines for row in data["confusion"])


def test_text_that_looks_like_a_placeholder_stays_text():
    _, record, _ = make_record(notes=("@confusion@", '"quoted" \\ \n ü'))
    assert Record.from_json(record.to_json()).notes == ["@confusion@", '"quoted" \\ \n ü']


def test_a_diverged_run_with_nan_in_its_curve_can_be_written():
    _, record, _ = make_record(status="diverged")
    record.curve["loss"] = [2.0, math.inf, math.nan]
    record.diagnostics = {"u": np.array([0.1, np.nan]), "n": np.int64(3), "gain": np.float32(0.5)}
    again = Record.from_json(record.to_json())
    assert again.curve["loss"] == pytest.approx([2.0, math.nan, math.nan], nan_ok=True)
    assert again.diagnostics == {"u": [0.1, None], "n": 3, "gain": 0.5}


def broken(**changes):
    data = json.loads(make_record()[1].to_json())
    for key, value in changes.items():
        data[key] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        (make_record()[1].to_json()[:500], "not valid JSON"),
        ("\x00\x01", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1, 2]", "no schema"),
        ('{"name": "package.json"}', "no schema"),
        ('{"schema": "http://json-schema.org"}', "not a lossbench record"),
        ('{"schema": true}', "not a lossbench record"),
        ('{"schema": 1}', "no 'cell'"),
        (broken(status="great"), "none of ok, diverged"),
        (broken(confusion=[[1, 2], [3, 4]]), "for 8 classes"),
        (broken(confusion=[[1.5] * 8] * 8), "pixel counts"),
        (broken(confusion=[[-1] * 8] * 8), "pixel counts"),
        (broken(confusion=[[10**30] * 8] * 8), "pixel counts"),
        (broken(confusion=[[1], [1, 2]]), "malformed"),
        (broken(labels=[]), "'labels' must be a JSON object"),
        (broken(labels={"dataset": "x"}), "no 'backbone'"),
        (broken(cell={"seed": 0, "dataset": "streets"}), "malformed"),
        (broken(curve={"loss": 3}), "malformed"),
        (broken(train_pixels=["many"] * 8), "malformed"),
        (broken(id="0" * 16), "not the hash of its cell"),
        (broken(cell={**json.loads(make_record()[1].to_json())["cell"], "seed": 7}), "not the hash of its cell"),
        (broken(cell={**json.loads(make_record()[1].to_json())["cell"], "extra": math.nan}), "malformed"),
    ],
)
def test_what_is_no_record_is_refused_in_one_line(text, words):
    with pytest.raises(RecordError, match=words) as caught:
        Record.from_json(text)
    assert "\n" not in caught.value.message


def test_a_newer_schema_is_told_apart():
    with pytest.raises(NewerSchemaError, match="newer than this lossbench") as caught:
        Record.from_json(broken(schema=SCHEMA + 1))
    assert caught.value.hint == "upgrade lossbench"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("record_v*.json")), ids=lambda path: path.stem)
def test_policy_every_old_record_stays_readable(path):
    """Never edit a golden file. A new schema adds one; the old ones must keep giving the same figures."""
    record = Record.from_json(path.read_bytes())
    expected = json.loads((GOLDEN / "figures.json").read_text())[path.stem]
    assert record.id == expected["id"]
    assert metrics.summary(record.confusion, record.train_pixels) == pytest.approx(expected["summary"], rel=1e-12)
    assert record.costs["ms_per_step"] == expected["ms_per_step"]
    assert record.provenance["protocol"] == expected["protocol"]
    fine = finescores.scores(record.extra_counts, len(record.class_names))
    assert fine == pytest.approx(dict.fromkeys(finescores.FINE, math.nan) | expected.get("fine", {}), nan_ok=True)
    assert list(finescores.problems(record.extra_counts, record.confusion)) == []


def test_policy_there_is_a_golden_file_for_every_schema():
    names = {path.stem.removesuffix("_extra") for path in GOLDEN.glob("record_v*.json")}
    assert names == {f"record_v{schema}" for schema in range(1, SCHEMA + 1)}
