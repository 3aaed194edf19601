"""GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossbench.runs import Run
from lossbench.standings import Block
from lossbench.views.grid import (
    DOCUMENT,
    Entry,
    Grid,
    Header,
    chosen,
    class_grid,
    footer,
    runs_grid,
    summary_grid,
    wanted,
)

if TYPE_CHECKING:
    from lossbench.published import PublishedTable


def render(
    blocks: Sequence[Block],
    *,
    per_class: bool = False,
    published: Sequence[PublishedTable] = (),
    columns: Sequence[str] | None = None,
) -> str:
    """A heading, a table and a list of notes per block, the best value of a column in bold; then the published tables
    that stand beside no block."""
    parts = []
    for block in blocks:
        keys = document_columns(block, columns)
        parts += [f"### {escape(block.title)}", table(summary_grid(block, keys))]
        if per_class:
            parts.append(table(class_grid(block)))
        parts.append("\n".join(f"- {escape(note)}" for note in footer(block, keys)))
    for alone in published:
        from lossbench.views.published import grid, note, title

        parts += [f"### {escape(title(alone))}", table(grid(alone)), f"- {escape(note(alone))}"]
    return "\n\n".join(parts) + "\n"


def render_runs(runs: Sequence[Run]) -> str:
    """One table, one row per run, the first columns naming dataset and backbone."""
    grid = runs_grid(runs)
    named = [[Entry(run.record.labels["dataset"]), Entry(run.record.labels["backbone"])] for run in runs]
    headers = [Header("dataset", numeric=False), Header("backbone", numeric=False), *grid.headers]
    return table(Grid(headers, [[*a, *b] for a, b in zip(named, grid.rows, strict=True)])) + "\n"


def document_columns(block: Block, columns: Sequence[str] | None = None) -> list[str]:
    """Columns of a table in a document, those named or the usual; without the reference's when there is none."""
    return chosen(columns, block) or wanted(DOCUMENT, block)


def table(grid: Grid) -> str:
    """A pipe table."""
    lines = [
        [escape(header.one_line) for header in grid.headers],
        ["---:" if header.numeric else ":---" for header in grid.headers],
        *([_cell(entry) for entry in line] for line in grid.rows),
    ]
    for heading, apart in grid.apart:
        lines.append([escape(heading), *[""] * (len(grid.headers) - 1)])
        lines += [[_cell(entry) for entry in line] for line in apart]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(entry: Entry) -> str:
    text = f"**{escape(entry.text)}**" if entry.best else escape(entry.text)
    return f"{text} {entry.spread}".rstrip()


def escape(text: str) -> str:
    """`text` without meaning to Markdown."""
    # Underscores within a word, as in lovasz_softmax, are harmless in GFM and stay readable as source.
    return re.sub(r"[\\|*`<\[\]~]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text).replace("\n", " ")
