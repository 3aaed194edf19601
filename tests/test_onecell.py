"""A record's suite has the record's cell and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.cli.main import run
from lossbench.errors import ConfigError
from lossbench.onecell import suite_of, threads_option
from lossbench.readmany import read_record
from lossbench.scan import json_files
from lossbench.suite import load_suite
from tests.factories import make_record

RESULTS = Path(__file__).parents[1] / "results"
RECORDS = [path for path in json_files(RESULTS / "records") if "-s3-" in path.name]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_it_is_the_very_cell(tmp_path, path):
    record = read_record(path)
    suite = tmp_path / "again.yaml"
    suite.write_text(suite_of(record))
    assert [cell.id for cell in load_suite(str(suite)).cells()] == [record.id]


def test_show_prints_it(capsys):
    record = read_record(RECORDS[0])
    assert run(["show", "record", record.id, "--suite", "--results", str(RESULTS)]) == 0
    assert capsys.readouterr().out == suite_of(record)
    assert run(["show", "loss", "ce", "--suite"]) == 2


def test_a_file_cannot_be_repeated():
    _, record, _ = make_record()
    record.cell["backbone"]["params"]["weights"] = "sha256:0123456789abcdef"
    with pytest.raises(ConfigError, match="'weights' of backbone"):
        suite_of(record)


@pytest.mark.parametrize(
    ("hardware", "option"),
    [
        ({"threads": 4}, " --threads 4"), ({}, ""), (None, ""), ({"threads": "4; rm"}, ""), ({"threads": True}, ""),
        ({"threads": 0}, ""),
    ],
)  # fmt: skip
def test_it_says_with_how_many_threads(hardware, option):
    _, record, _ = make_record()
    record.provenance["hardware"] = hardware
    assert threads_option(record) == option
    assert f"# lossbench run FILE{option} --results again" in suite_of(record)
