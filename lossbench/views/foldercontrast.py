"""Comparisons of two folders as text and JSON: `lossbench compare`."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from lossbench.foldercontrast import FolderContrast, Pair
from lossbench.views.contrast import difference, numbers
from lossbench.views.data import json_text
from lossbench.views.grid import Entry, Grid, Header

if TYPE_CHECKING:
    from rich.console import Console

#: Cells that differ most, shown one by one.
_SHOWN = 5


def grid(found: FolderContrast) -> Grid:
    headers = [
        Header("loss", numeric=False), Header("cells"), Header("equal"), Header("Δ mIoU", "points ± CI"),
        Header("largest"), Header("other code", numeric=False),
    ]  # fmt: skip
    rows = []
    for block, loss, pairs, paired in found.rows:
        known = [pair.apart for pair in pairs if not math.isnan(pair.apart)]
        code = sorted({part for pair in pairs for part in pair.code})
        rows.append([
            Entry(f"{block} / {loss}"), Entry(str(len(pairs))), Entry(str(sum(pair.equal for pair in pairs))),
            difference(paired), Entry(f"{max(known, key=abs):+.2f}" if known else "-"), Entry(", ".join(code) or "-"),
        ])  # fmt: skip
    return Grid(headers, rows)


def notes(found: FolderContrast, ours: str, theirs: str) -> list[str]:
    equal = sum(pair.equal for pair in found.pairs)
    cells = "1 cell is" if len(found.pairs) == 1 else f"{len(found.pairs)} cells are"
    lines = [
        f"{cells} in both, {equal} of them with equal TP, FP and FN of every class; "
        f"{len(found.only_ours)} only in {ours}, {len(found.only_theirs)} only in {theirs} (--json lists them). "
        f"Δ: {ours} minus {theirs}, paired over seeds."
    ]
    apart = sorted((pair for pair in found.pairs if not pair.equal), key=_distance)[:_SHOWN]
    lines += [
        f"{pair.id[:10]} {pair.title} / {pair.loss} / seed {pair.seed}: {_score(pair.ours)} and {_score(pair.theirs)}."
        for pair in apart
    ]
    return [*lines, *found.notes]


def _distance(pair: Pair) -> float:
    return -math.inf if math.isnan(pair.apart) else -abs(pair.apart)


def _score(value: float) -> str:
    return "nothing" if math.isnan(value) else f"{value:.2f}"


def render(found: FolderContrast, ours: str, theirs: str, console: Console) -> None:
    from lossbench.views import terminal

    terminal.print_title(f"{ours} minus {theirs}", console)
    if found.pairs:
        terminal.draw(grid(found), console)
    terminal.print_notes(notes(found, ours, theirs), console)


def render_json(found: FolderContrast) -> str:
    """One object: `cells` in both, `only_ours` and `only_theirs`, `rows` over seeds. Undefined is null."""
    return json_text({
        "cells": [asdict(pair) for pair in found.pairs],
        "only_ours": [asdict(cell) for cell in found.only_ours],
        "only_theirs": [asdict(cell) for cell in found.only_theirs],
        "rows": [
            {"block": block, "loss": loss, "cells": len(pairs), "equal": sum(p.equal for p in pairs)}
            | numbers(paired)
            for block, loss, pairs, paired in found.rows
        ],
        "notes": found.notes,
    })  # fmt: skip
