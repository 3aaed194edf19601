"""The committed records: each can be read, is what its file name says, and adds up. Policy as tests on the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.errors import RecordError
from lossbench.readmany import read_record
from lossbench.recordaudit import check_record
from lossbench.scan import json_files
from lossbench.store import Store, StoredRecord
from tests.factories import put, quickstart

RESULTS = Path(__file__).parents[1] / "results"


def problems(results: Path) -> list[str]:
    """What is wrong with the records of a results folder, a line each."""
    found = []
    places: dict[str, Path] = {}
    folder = results / "records"
    for path in json_files(folder):
        name = path.relative_to(folder)
        try:
            record = read_record(path)
        except RecordError as error:
            found.append(error.message)
            continue
        cell = record.cell
        expected = Path(cell["dataset"]["name"], cell["backbone"]["name"])
        expected /= f"{cell['loss']['name']}-s{record.seed}-{record.id}.json"
        if name != expected:
            found.append(f"{name}: holds the record of {expected}")
        if record.id in places:
            found.append(f"{name}: the same run as {places[record.id]}")
        places[record.id] = name
        checks, notes = check_record(StoredRecord(record, path))
        wrong = [check for check in checks if not check.holds]
        found += [f"{name}: {check.score} {check.printed}, must be {check.relation}" for check in wrong]
        found += [f"{name}: {note}" for note in notes]
    counts = {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"}
    stray = counts - {folder / name.with_suffix(".npz") for name in places.values()}
    return found + [f"{path.relative_to(folder)}: of no record" for path in sorted(stray)]


def test_the_committed_records_are_sound():
    assert problems(RESULTS) == []


@pytest.fixture
def results(tmp_path):
    quickstart(Store(tmp_path))
    return tmp_path


def test_sound_records_pass(results):
    assert problems(results) == []


def test_a_record_under_another_name_is_found(results):
    path = next(results.rglob("focal-s1-*.json"))
    for suffix in (".json", ".npz"):
        path.with_suffix(suffix).rename(path.with_name("focal-s2-" + "0" * 16).with_suffix(suffix))
    (line,) = problems(results)
    assert "focal-s2-0000000000000000.json: holds the record of streets/fcn_timm/focal-s1-" in line


def test_two_records_of_one_run_are_found(results):
    path = next(results.rglob("focal-s1-*.json"))
    for suffix in (".json", ".npz"):
        content = path.with_suffix(suffix).read_bytes()
        path.with_name("focal-s1-copy").with_suffix(suffix).write_bytes(content)
    assert any("the same run as" in line for line in problems(results))


def test_a_record_that_was_changed_by_hand_is_found(results):
    path = put(Store(results), loss="dice", seed=5)
    path.write_text(path.read_text().replace('"seed": 5', '"seed": 6'))
    assert any("is not the hash of its cell" in line for line in problems(results))


def test_a_truncated_record_is_found(results):
    path = next(results.rglob("focal-s1-*.json"))
    path.write_text(path.read_text()[:300])
    lines = problems(results)
    assert "not valid JSON" in lines[0]
    assert lines[1].endswith(".npz: of no record")


def test_a_record_without_its_counts_is_found(results):
    next(results.rglob("focal-s1-*.npz")).unlink()
    (line,) = problems(results)
    assert "no per-image counts" in line
