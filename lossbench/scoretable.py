"""Tables of scores from CSV and JSON files, as rows that audit.py checks.

Columns are known by the spellings that papers, toolboxes and our own exports use; what is not a score is left alone.
A score is taken with the digits it was printed with.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.audit import MEASURES, Score, ScoreRow
from lossbench.errors import ConfigError
from lossbench.scorecolumns import (
    MEAN_ROWS,
    Cell,
    class_measure,
    is_number,
    is_spread,
    plain,
    read_cell,
    score_column,
)
from lossbench.scorelines import Line, csv_lines, json_lines

if TYPE_CHECKING:
    from lossbench.published import PublishedTable

#: What tells rows apart: the first that a table has names them, others are added where that is not enough.
_NAMES = ("loss", "method", "model", "name", "run", "dataset", "backbone", "variant", "seed", "id")
_CLASS = ("class", "classname", "category")


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores: where it comes from, its rows, and what a reader must know of the reading."""

    title: str
    rows: Sequence[ScoreRow]
    notes: Sequence[str] = field(default_factory=list)


def read_table(path: Path) -> ScoreTable:
    """The table in a CSV or JSON file; `-` is standard input.

    JSON: what `leaderboard --json` writes, or a list of flat objects (alone, or as `rows` of an object), with keys as
    columns. Raises ConfigError that says where.
    """
    title = "standard input" if str(path) == "-" else str(path)
    return table_of(_text(path), title)


def table_of(text: str, title: str) -> ScoreTable:
    """The table in the text of a CSV or JSON file. Raises ConfigError."""
    unit = None
    if text.lstrip()[:1] in ("[", "{"):
        lines, unit = json_lines(text, title)
    else:
        lines = csv_lines(text, title)
    return _table(lines, unit, title)


def _text(path: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8", hint="save it as CSV or JSON in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None


def of_published(table: PublishedTable) -> ScoreTable:
    """A table of a paper."""
    rows = [ScoreRow(row.loss, {key: Cell(score).score(1) for key, score in row.scores.items()}) for row in table.rows]
    return ScoreTable(f"{table.title} ({table.stated_dataset}, {table.stated_backbone})", rows)


# --- rows ---


def _table(lines: Sequence[Line], unit: str | None, title: str) -> ScoreTable:
    columns = list(dict.fromkeys(key for line in lines for key in line))
    of_class = next((column for column in columns if plain(column) in _CLASS), None)
    meanings = _meanings(lines, columns, by_class=of_class is not None, title=title)
    cells = [
        {column: read_cell(line.get(column), f"{title}, row {number}, column '{column}'") for column in meanings}
        for number, line in enumerate(lines, 1)
    ]
    values = [float(cell.number) for row in cells for cell in row.values() if cell is not None]
    if not values:
        raise ConfigError(f"{title} has score columns, but no score")
    fractions = unit == "fraction" or (unit is None and 0 < max(values) <= 1)
    notes = ["Read as fractions: shown in percent."] if fractions else []
    labels = _labels(lines, columns, of_class)
    rows: dict[str, ScoreRow] = {}
    for label, line, row in zip(labels, lines, cells, strict=True):
        found = {column: cell for column, cell in row.items() if cell is not None}
        name = str(line.get(of_class) or "mean") if of_class else ""
        made = _row(label, found, meanings, name, 100 if fractions else 1)
        made = ScoreRow(label, made.means, made.classes, _averaged(line, found))
        rows[label] = _joined(rows[label], made) if label in rows else made
        if found and not fractions and unit is None and max(cell.number for cell in found.values()) <= 1:
            notes.append(f"{label}: no score is above 1: fractions among percentages?")
    return ScoreTable(title, list(rows.values()), notes)


def _meanings(
    lines: Sequence[Line], columns: Sequence[str], *, by_class: bool, title: str
) -> dict[str, tuple[str, str]]:
    """(class, measure) or ("", scalar) by column; in a table with one row a class, ("", measure)."""
    found: dict[str, tuple[str, str]] = {}
    for column in columns:
        measure = class_measure(column) if by_class else None
        meaning = ("", measure) if measure else None if by_class else score_column(column)
        if meaning is None or (meaning[0] and not any(is_number(line.get(column)) for line in lines)):
            continue
        if meaning in found.values():
            other = next(name for name, known in found.items() if known == meaning)
            raise ConfigError(f"{title}: the columns '{other}' and '{column}' are the same score", hint="leave out one")
        found[column] = meaning
    if not found:
        raise ConfigError(
            f"{title} has no column of scores: {', '.join(columns[:8])}",
            hint="known are mIoU, mAcc, mPrec, mRec, mF1, pixAcc, fwIoU and, of a class, e.g. iou_car; "
            "or a column 'class' with IoU, Acc, Precision, Recall, F1",
        )
    return found


def _row(
    label: str, cells: Mapping[str, Cell], meanings: Mapping[str, tuple[str, str]], name: str, scale: int
) -> ScoreRow:
    """The scores of a line; `name` is the class it is of, in a table with one row a class."""
    means: dict[str, Score] = {}
    classes: dict[str, dict[str, Score]] = {}
    for column, cell in cells.items():
        of_class, key = meanings[column]
        if name:
            of_class, key = ("", MEASURES[key]) if name.lower() in MEAN_ROWS else (name, key)
        (classes.setdefault(of_class, {}) if of_class else means)[key] = cell.score(scale)
    return ScoreRow(label, means, classes)


def _averaged(line: Line, cells: Mapping[str, Cell]) -> bool:
    """Whether a line is a mean over several evaluations: it says so, or has a spread."""
    number = str(line.get("n") or "").strip()
    return (
        (number.isascii() and number.isdecimal() and number.lstrip("0") not in ("", "1"))
        or any(cell.spread for cell in cells.values())
        or any(is_spread(column) and is_number(value) for column, value in line.items())
    )


def _joined(first: ScoreRow, second: ScoreRow) -> ScoreRow:
    """Two lines of one row: of other classes."""
    return ScoreRow(
        first.label, {**first.means, **second.means}, {**first.classes, **second.classes},
        first.averaged or second.averaged,
    )  # fmt: skip


def _labels(lines: Sequence[Line], columns: Sequence[str], of_class: str | None) -> list[str]:
    """A name for each line; those of one row of a table with one line a class share it."""
    known = [column for name in _NAMES for column in columns if plain(column) == name]
    if not known:
        known = [c for c in columns if c != of_class and any(line.get(c) and not is_number(line[c]) for line in lines)][
            :1
        ]
    if not known:
        return ["all"] * len(lines) if of_class else [f"row {number}" for number in range(1, len(lines) + 1)]
    labels = [str(line.get(known[0]) or "") for line in lines]
    groups = len({tuple(str(line.get(column)) for column in known) for line in lines}) if of_class else len(lines)
    for column in known[1:]:
        if len(set(labels)) == groups:
            return labels
        longer = [
            f"{label} / {line[column]}" if line.get(column) else label
            for label, line in zip(labels, lines, strict=True)
        ]
        labels = longer if len(set(longer)) > len(set(labels)) else labels
    if len(set(labels)) < groups:  # nothing else tells them apart
        labels = [f"{label} (row {number})" for number, label in enumerate(labels, 1)]
    return labels
