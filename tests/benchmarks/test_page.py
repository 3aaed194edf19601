"""docs/performance.md shows the figures of docs/performance.json, and no others."""

import json
import re
from pathlib import Path

from benchmarks.measure import Table
from benchmarks.run import GROUPS, markdown

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_table_of_the_page_is_a_print_of_the_stored_report() -> None:
    page = (DOCS / "performance.md").read_text()
    groups = json.loads((DOCS / "performance.json").read_text())["groups"]
    assert list(groups) == list(GROUPS)
    tables = [Table.from_json(table) for group in groups.values() for table in group]
    for table in tables:
        assert markdown(table) in page, table.title
    titles = re.findall(r"^\*\*(.+)\*\*$", page, flags=re.MULTILINE)
    assert sorted(titles) == sorted(table.title for table in tables)


def test_a_stored_table_comes_back_whole() -> None:
    for group in json.loads((DOCS / "performance.json").read_text())["groups"].values():
        for table in group:
            assert Table.from_json(table).to_json() == table
