"""What a CSV or JSON file of scores holds, line by line: columns and cells, not yet what they mean."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from lossbench.errors import ConfigError

#: A row: cells by column. Numbers from JSON are Decimals, with the digits they were written with.
Line = Mapping[str, Any]

_FORM = "a list of objects, or what `lossbench leaderboard --json` writes"


def csv_lines(text: str, title: str) -> list[Line]:
    """The lines below the header of a CSV; columns end at `,`, `;`, `|` or tabs, lines as on any system.
    Raises ConfigError."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first = text.strip().partition("\n")[0]
    delimiter = max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        table = [line for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        hint = "is a quote left open?" if "field limit" in str(error) else None
        raise ConfigError(f"{title}: not a CSV, up to line {reader.line_num} ({error})", hint=hint) from None
    if len(table) < 2:
        raise ConfigError(f"{title} holds no table", hint="a line of column names, then a line for each row")
    header = [name.strip() for name in table[0]]
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice:
        raise ConfigError(f"{title}: two columns are called '{twice}'")
    for number, line in enumerate(table[1:], 2):
        if len(line) > len(header):
            raise ConfigError(f"{title}: row {number} has {len(line)} cells for {len(header)} columns")
    return [dict(zip(header, line, strict=False)) for line in table[1:]]


def json_lines(text: str, title: str) -> tuple[list[Line], str | None]:
    """The rows of a JSON file, our own with `iou:` before the classes, and the unit it says. Raises ConfigError."""
    try:
        data = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{title} is not valid JSON ({error})") from None
    except ArithmeticError:  # of Decimal
        raise ConfigError(
            f"{title} holds a number beyond all bounds", hint="scores are numbers from 0 to 100"
        ) from None
    unit = data.get("unit") if isinstance(data, dict) else None
    rows: Any
    if isinstance(data, dict) and isinstance(data.get("blocks"), list):
        rows = _flat_rows(data["blocks"], f"{title}: blocks")
        rows += _flat_rows(data.get("published"), f"{title}: published")
    else:
        rows = data.get("rows") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        hint = _FORM
        if isinstance(data, dict) and "confusion" in data:
            hint = "records are audited by folder: --results FOLDER"
        raise ConfigError(f"{title} holds no table of scores", hint=hint)
    return rows, unit if isinstance(unit, str) else None


def _flat_rows(blocks: Any, where: str) -> list[Line]:
    """The rows of all blocks (or published tables) of our own JSON, each with what its block says."""
    return [
        _flat(block | row, row_place)
        for place, block in _objects(blocks, where)
        for row_place, row in _objects(block.get("rows"), f"{place}.rows")
    ]


def _objects(value: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    """(place, object) for each of a list; none where there is no list. Raises ConfigError for anything else."""
    _require(value, list, where)
    found = [(f"{where}[{number}]", item) for number, item in enumerate(value or ())]
    for place, item in found:
        if not isinstance(item, dict):
            raise _shape(place, dict)
    return found


def _flat(row: Mapping[str, Any], where: str) -> Line:
    """A row of our own JSON as one of our CSV."""
    line = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
    for prefix, part in (("", "scores"), ("iou:", "iou")):
        _require(row.get(part), dict, f"{where}.{part}")
        line.pop(part, None)
        for key, value in (row.get(part) or {}).items():
            if isinstance(value, dict) and "mean" not in value:
                raise ConfigError(f"{where}.{part}.{key} has no 'mean'", hint=_FORM)
            line[f"{prefix}{key}"] = value["mean"] if isinstance(value, dict) else value
    return line


def _require(value: Any, kind: type, where: str) -> None:
    """Raises ConfigError when a value is there and is not of that kind."""
    if value is not None and not isinstance(value, kind):
        raise _shape(where, kind)


def _shape(where: str, kind: type) -> ConfigError:
    return ConfigError(f"{where} is no {'list' if kind is list else 'object'}", hint=_FORM)
