"""The committed records are in order: every rule of `lossbench verify`, and the arithmetic of `lossbench audit`."""

from __future__ import annotations

from pathlib import Path

from lossbench.recordaudit import check_record
from lossbench.store import Store
from lossbench.verification.privacy import leaves
from lossbench.verification.verify import verify_all

RESULTS = Path(__file__).parents[1] / "results"


def test_the_committed_records_are_in_order():
    report = verify_all(RESULTS)
    assert report.problems == []
    assert report.checked == len(list(RESULTS.rglob("records/**/*.json"))) > 0


def test_their_figures_obey_the_arithmetic_of_scores():
    stored, skipped = Store(RESULTS).read_all()
    assert skipped == []
    for record in stored:
        checks, notes = check_record(record)
        assert notes == []
        assert [check for check in checks if not check.holds] == []


def test_they_name_no_path_of_a_machine():
    private = leaves(stored.record for stored in Store(RESULTS).read_all()[0])["private"]
    assert [text for text in private if "/" in text or "\\" in text] == []
