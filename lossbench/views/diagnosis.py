"""Diagnostics of losses for a terminal, in Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from lossbench.diagnosis import POINTS, Diagnosis, Told
from lossbench.statistics import Description
from lossbench.views import markdown
from lossbench.views.data import json_text
from lossbench.views.grid import Entry, Grid, Header, class_starts, protocol_line, row_label
from lossbench.views.terminal import draw, print_notes, print_title, split_classes


def render(diagnoses: Sequence[Diagnosis], console: Console) -> None:
    """Print for each block the numbers over training, the values per class, and what a reader must know."""
    for place, diagnosis in enumerate(diagnoses):
        if place:
            console.print()
        print_title(diagnosis.block.title, console)
        if diagnosis.scalars:
            grid = scalar_grid(diagnosis)
            room = max(map(len, diagnosis.scalars))  # for the headings of the sections, which stand in this column
            grid.headers[0] = replace(grid.headers[0], title=grid.headers[0].title.ljust(room))
            draw(grid, console)
        for name in diagnosis.classes:
            for grid in split_classes(class_grid(diagnosis, name), console):
                console.print()
                draw(grid, console)
        print_notes(notes(diagnosis), console)


def render_markdown(diagnoses: Sequence[Diagnosis]) -> str:
    """A heading, the tables and a list of notes for each block."""
    parts = []
    for diagnosis in diagnoses:
        parts.append(f"### {markdown.escape(diagnosis.block.title)}")
        if diagnosis.scalars:
            grid = scalar_grid(diagnosis)
            rows = [[Entry(name), *line] for name, lines in grid.apart for line in lines]
            parts.append(markdown.table(Grid([Header("diagnostic", numeric=False), *grid.headers], rows)))
        parts += [markdown.table(class_grid(diagnosis, name)) for name in diagnosis.classes]
        parts.append("\n".join(f"- {_escape(note)}" for note in notes(diagnosis)))
    return "\n\n".join(parts) + "\n"


def _escape(note: str) -> str:
    """For Markdown; what stands between backticks stays code."""
    parts = note.split("`")
    if len(parts) % 2 == 0:  # a name with a backtick in it
        return markdown.escape(note)
    return "`".join(part if place % 2 else markdown.escape(part) for place, part in enumerate(parts))


def scalar_grid(diagnosis: Diagnosis) -> Grid:
    """Start, middle and end of training; a section for each diagnostic, in it a row for each loss that logs it."""
    headers = [Header(point, _steps(diagnosis, place)) for place, point in enumerate(POINTS)]
    sections = []
    for name in diagnosis.scalars:
        told = [each for each in diagnosis.told if name in each.scalars]
        sections.append((name, [[Entry(row_label(each.row)), *map(_entry, each.scalars[name])] for each in told]))
    return Grid([Header("loss", numeric=False), *headers], [], sections)


def class_grid(diagnosis: Diagnosis, name: str) -> Grid:
    """One diagnostic per class, commonest in training first; a column for each loss that logs it."""
    told = [each for each in diagnosis.told if name in each.classes]
    headers = [Header("class", name, numeric=False), Header("pixels", "train %"), Header("group", numeric=False)]
    headers += [Header(row_label(each.row)) for each in told]
    rows = [
        [*start, *(Entry(_number(each.classes[name][index].mean)) for each in told)]
        for index, start in class_starts(diagnosis.block)
    ]
    return Grid(headers, rows)


def notes(diagnosis: Diagnosis) -> list[str]:
    """What the numbers are of, and which losses are not there."""
    rows = [told.row for told in diagnosis.told]
    counts = {row.n for row in rows}
    seeds = _range(counts) + " seed" + "s" * (max(counts) > 1)
    spread = f"; mean ± sd over {seeds}" if max(counts) > 1 else f", of {seeds}"
    lines = [
        "Each number is of one training batch, at the first log point, at the one nearest to the middle and at the "
        f"last{spread}; {protocol_line(diagnosis.block)}."
    ]
    if diagnosis.classes:
        points = {count for told in diagnosis.told if told.classes for count in told.class_points}
        over = f", then over {seeds}" if max(counts) > 1 else ""
        lines.append(
            f"Per class: mean over {_range(points)} log points of a run{over}; a batch without a pixel of the class "
            "is left out."
        )
    lines.append(f"What a diagnostic means, its loss says: `lossbench show {rows[0].loss['name']}`.")
    if diagnosis.silent:
        lines.append(f"No diagnostics in the records of {', '.join(diagnosis.silent)}.")
    if any(row.diverged for row in rows):
        lines.append("!: diverged runs are among its seeds.")
    if any(row.stale for row in rows):
        lines.append("~: made by other code than is here now; `lossbench leaderboard` says why.")
    return lines


def _steps(diagnosis: Diagnosis, place: int) -> str:
    steps = {step for told in diagnosis.told if told.steps for step in told.steps[place]}
    return f"step {_range(steps)}" if steps else ""


def _range(numbers: set[int] | frozenset[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _entry(spread: Description) -> Entry:
    return Entry(_number(spread.mean), "" if spread.sd is None else f"±{_number(spread.sd, 2)}")


def _number(value: float, digits: int = 3) -> str:
    """Significant digits: diagnostics span many orders of magnitude."""
    return "-" if value != value else f"{value:#.{digits}g}".rstrip(".")


def render_json(diagnoses: Sequence[Diagnosis], warnings: Sequence[str] = ()) -> str:
    """One object: `blocks`, each with its `losses`, the losses with none (`silent`); `warnings`. Undefined is null."""
    return json_text({"blocks": [_block(diagnosis) for diagnosis in diagnoses], "warnings": list(warnings)})


def _block(diagnosis: Diagnosis) -> dict[str, Any]:
    block = diagnosis.block
    return {
        "dataset": block.dataset,
        "backbone": block.backbone,
        "variant": block.variant,
        "protocol": dict(block.protocol),
        "class_names": block.class_names,
        "train_pixels": block.train_pixels,
        "losses": [_loss(told, block.class_names) for told in diagnosis.told],
        "silent": list(diagnosis.silent),
    }


def _loss(told: Told, class_names: Sequence[str]) -> dict[str, Any]:
    row = told.row
    return {
        "loss": row.label,
        "name": row.loss["name"],
        "params": dict(row.loss["params"]),
        "seeds": row.seeds,
        "ids": row.runs.ids,
        "diverged": row.diverged,
        "stale": row.stale,
        "steps": {point: sorted(steps) for point, steps in zip(POINTS, told.steps, strict=False)},
        "class_points": sorted(told.class_points),
        "diagnostics": {
            name: {point: _described(spread) for point, spread in zip(POINTS, found, strict=True)}
            for name, found in told.scalars.items()
        },
        "classes": {
            name: {label: _described(spread) for label, spread in zip(class_names, found, strict=True)}
            for name, found in told.classes.items()
        },
    }


def _described(spread: Description) -> dict[str, Any]:
    return {"mean": spread.mean, "sd": spread.sd, "n": spread.n}
