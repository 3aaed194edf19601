"""`lossbench audit`: scores that cannot be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.common import DEFAULT_RESULTS, JsonOption
from lossbench.errors import ConfigError

if TYPE_CHECKING:
    from lossbench.audit import Check
    from lossbench.scoretable import ScoreTable
    from lossbench.views.audit import Audited


def audit(
    file: Annotated[
        list[Path] | None,
        Argument(metavar="FILE", help="Tables of scores, CSV or JSON; - is standard input.", show_default=False),
    ] = None,
    published: Annotated[bool, Option("--published", help="The published tables of lossbench.")] = False,
    results: Annotated[
        Path | None,
        Option(
            "--results",
            metavar="FOLDER",
            help="The records of this folder. Default, if nothing else is named: results.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Check scores for arithmetic that cannot be, in any table or in our own records.

    Mean accuracy is mean recall; IoU is at most precision and recall; F1 = 2 IoU/(1 + IoU) of a class and at most that
    of means; a mean is that of its classes. A number is taken as printed: 62.1 is anything from 62.05 to 62.15. Records
    are recomputed from their confusion matrix. Exits with 1 when something cannot be.

    \b
    Example:
      lossbench audit --published
      lossbench leaderboard --format csv | lossbench audit -
    """
    from lossbench.scoretable import of_published, read_table

    found = [_table(read_table(path), "table") for path in file or ()]
    if published:
        from lossbench.published import load

        found += [_table(of_published(table), "published") for table in load()]
    if results is not None or not found:
        found.append(_records(results or Path(os.environ.get("LOSSBENCH_RESULTS") or DEFAULT_RESULTS)))
    from lossbench.views.audit import render, render_json

    if json:
        sys.stdout.write(render_json(found))
    else:
        from lossbench.cli.common import stdout

        render(found, stdout())
    return int(any(source.found for source in found))


def _table(table: ScoreTable, kind: str) -> Audited:
    from lossbench.audit import check_row, fractions

    checks = [check for row in table.rows for check in check_row(row)]
    wrong = {check.row for check in checks if not check.holds}
    small = {row.label: fractions(row) for row in table.rows if row.label in wrong}
    hints = [f"{label}: {', '.join(scores)}: fractions among percentages?" for label, scores in small.items() if scores]
    return _audited(table.title, kind, len(table.rows), checks, [*table.notes, *hints])


def _records(results: Path) -> Audited:
    from lossbench.recordaudit import check_record, unreadable
    from lossbench.store import Store

    records, skipped = Store(results).read_all()
    if not records and not skipped:
        raise ConfigError(f"no records in {results}", hint="name a folder with --results, a table, or --published")
    checks: list[Check] = [unreadable(f"file {number}", line) for number, line in enumerate(skipped, 1)]
    notes: list[str] = []
    for stored in records:
        made, remarks = check_record(stored)
        checks += made
        notes += remarks
    return _audited(str(results), "records", len(records) + len(skipped), checks, notes)


def _audited(title: str, kind: str, rows: int, checks: Iterable[Check], notes: Iterable[str]) -> Audited:
    from lossbench.views.audit import Audited

    made = list(checks)
    return Audited(title, kind, rows, len(made), [check for check in made if not check.holds], list(notes))
