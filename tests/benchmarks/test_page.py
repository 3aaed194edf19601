"""docs/performance.md shows the figures of docs/performance.json, and no others; docs/reliability.md those of
docs/scale.json, docs/submitting.md those of docs/verify.json."""

import json
import re
from pathlib import Path

from benchmarks import scale
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


def test_the_page_on_reliability_shows_the_stored_growth() -> None:
    (stored,) = json.loads((DOCS / "scale.json").read_text())["groups"]["scale"]
    table = Table.from_json(stored)
    assert markdown(table) in (DOCS / "reliability.md").read_text()
    assert table.to_json() == stored


def test_the_page_on_submitting_shows_the_stored_times() -> None:
    (stored,) = json.loads((DOCS / "verify.json").read_text())["groups"]["verify"]
    assert markdown(Table.from_json(stored)) in (DOCS / "submitting.md").read_text()


def test_the_figure_of_growth_can_be_drawn_anew(tmp_path: Path) -> None:
    scale.main(str(DOCS / "scale.json"), str(tmp_path / "scale.svg"))
    assert (tmp_path / "scale.svg").read_text().rstrip().endswith("</svg>")


def test_a_stored_table_comes_back_whole() -> None:
    for group in json.loads((DOCS / "performance.json").read_text())["groups"].values():
        for table in group:
            assert Table.from_json(table).to_json() == table
