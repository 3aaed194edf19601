"""Published rows in tables: apart from the measured ones, marked, never best of a column."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console

from lossbench.published import MARK, PublishedRow, PublishedTable
from lossbench.standings import COLUMNS
from lossbench.views import terminal
from lossbench.views.grid import Entry, Grid, Header, in_order

#: Follows the name of every published row.
DAGGER = "†"


def heading(table: PublishedTable) -> str:
    """What stands above published rows below measured ones."""
    return f"{MARK}: {table.source.short}"


def title(table: PublishedTable) -> str:
    """What stands above a table without measured rows."""
    return f"{table.dataset} / {table.stated_backbone} ({heading(table)})"


def lines(table: PublishedTable, keys: Sequence[str]) -> list[list[Entry]]:
    """A line per row: its name, then a cell for each of `keys`, empty where the paper gives nothing."""
    return [
        [Entry(f"{row.loss} {DAGGER}"), *(Entry(_printed(row.scores.get(key))) for key in keys)]  # type: ignore[call-overload]
        for row in table.rows
    ]


def _printed(score: Decimal | None) -> str:
    """The digits of the paper; 62.1 leaves room for a second decimal, so that the points stand below each other."""
    if score is None:
        return ""
    text = str(score)
    return text + " " * max(0, 2 - len(text.partition(".")[2])) if "." in text else text


def grid(table: PublishedTable) -> Grid:
    """The table alone: the columns it has."""
    keys = in_order(list({key for row in table.rows for key in row.scores}))
    headers = [Header("loss", numeric=False), *(Header(COLUMNS[key].title, COLUMNS[key].unit) for key in keys)]
    return Grid(headers, lines(table, keys))


def note(table: PublishedTable) -> str:
    """Source, protocol and remarks in one paragraph."""
    said = f"{DAGGER}: {MARK}, outside ranks, best marks, differences and statistics: {table.reference}; "
    said += f"{table.stated_backbone} on {table.stated_dataset}, {table.split} split. Its protocol is not ours: "
    return " ".join([f"{said}{table.protocol}.", *table.remarks])


def render(tables: Sequence[PublishedTable], console: Console, *, after: bool = False) -> None:
    """Print tables that stand beside no measured rows; `after` something else, with a blank line between."""
    for table in tables:
        if after:
            console.print()
        after = True
        terminal.print_title(title(table), console)
        terminal.draw(grid(table), console)
        terminal.print_notes([note(table)], console)


def csv_rows(tables: Sequence[PublishedTable]) -> list[dict[str, Any]]:
    """Lines for the CSV beside those of measured rows: `published` says what they are, `source` where from."""
    return [
        {
            "dataset": table.dataset,
            "backbone": table.stated_backbone,
            "loss": row.loss,
            **{key: str(score) for key, score in row.scores.items()},
            "published": MARK,
            "source": table.reference,
        }
        for table in tables
        for row in table.rows
    ]


def json_tables(tables: Sequence[PublishedTable]) -> list[dict[str, Any]]:
    """The list `published` of the JSON, apart from `blocks`."""
    return [_table(table) for table in tables]


def _table(table: PublishedTable) -> dict[str, Any]:
    source = table.source
    return {
        "status": MARK,
        "source": {
            "authors": source.authors,
            "title": source.title,
            "venue": source.venue,
            "year": source.year,
            "doi": source.doi,
            "table": table.table,
        },
        "dataset": table.dataset,
        "dataset_params": dict(table.dataset_params),
        "stated_dataset": table.stated_dataset,
        "stated_backbone": table.stated_backbone,
        "split": table.split,
        "protocol": table.protocol,
        "remarks": table.remarks,
        "rows": [_row(row) for row in table.rows],
    }


def _row(row: PublishedRow) -> dict[str, Any]:
    return {"loss": row.loss, "name": row.name, "scores": dict(row.scores)}  # Decimal: 76.30 keeps its zero
