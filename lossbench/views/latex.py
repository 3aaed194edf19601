"""LaTeX tables with booktabs, ready to be \\input: nothing but `\\usepackage{booktabs}` is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lossbench.runs import Run
from lossbench.standings import Block
from lossbench.views.grid import Entry, Grid, Header, class_grid, footer, runs_grid, summary_grid
from lossbench.views.markdown import document_columns

if TYPE_CHECKING:
    from lossbench.published import PublishedTable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "†": r"$\dagger$",
}


def render(
    blocks: Sequence[Block],
    *,
    per_class: bool = False,
    published: Sequence[PublishedTable] = (),
    columns: Sequence[str] | None = None,
) -> str:
    """A table environment per block, its notes as the caption, the best value of a column in bold; then the published
    tables that stand beside no block."""
    parts = ["% Needs \\usepackage{booktabs}."]
    labels: list[str] = []
    for block in blocks:
        label = "tab:" + re.sub(r"[^a-z0-9]+", "-", f"{block.dataset} {block.backbone}".lower()).strip("-")
        labels.append(label)
        label += f"-{labels.count(label)}" if labels.count(label) > 1 else ""
        keys = document_columns(block, columns)
        caption = " ".join([f"{block.title}.", *footer(block, keys), "Bold: best of a column."])
        parts.append(_float(summary_grid(block, keys), caption, label))
        if per_class:
            caption = f"{block.title}: IoU per class in percent, mean over seeds; classes by training pixels."
            parts.append(_float(class_grid(block), caption, f"{label}-classes"))
    for table in published:
        from lossbench.views.published import grid, note, title

        label = f"tab:{table.source.doi.rpartition('/')[2]}-{table.table}".lower()
        parts.append(_float(grid(table), f"{title(table)}. {note(table)}", label))
    return "\n\n".join(parts) + "\n"


def render_runs(runs: Sequence[Run]) -> str:
    """One tabular, one row per run."""
    return "% Needs \\usepackage{booktabs}.\n" + tabular(runs_grid(runs)) + "\n"


def tabular(grid: Grid) -> str:
    """A booktabs tabular."""
    align = "".join("r" if header.numeric else "l" for header in grid.headers)
    lines = [
        rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        r"\toprule",
        _row(escape(header.title) for header in grid.headers),
    ]
    if any(header.unit for header in grid.headers):
        lines.append(_row(_unit(header) for header in grid.headers))
    lines += [r"\midrule", *(_line(line, grid) for line in grid.rows)]
    for heading, apart in grid.apart:
        lines += [
            r"\midrule",
            rf"\multicolumn{{{len(grid.headers)}}}{{@{{}}l@{{}}}}{{\textit{{{escape(heading)}}}}} \\",
        ]
        lines += [_line(line, grid) for line in apart]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def escape(text: str) -> str:
    """`text` with LaTeX's special characters, and ours, made printable."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _float(grid: Grid, caption: str, label: str) -> str:
    body = [r"\begin{table}", r"\centering", r"\small", r"\setlength{\tabcolsep}{4pt}"]
    body += [rf"\caption{{{escape(caption)}}}", rf"\label{{{label}}}", tabular(grid), r"\end{table}"]
    return "\n".join(body)


def _line(entries: Sequence[Entry], grid: Grid) -> str:
    return _row(_cell(entry, header) for entry, header in zip(entries, grid.headers, strict=True))


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _unit(header: Header) -> str:
    return escape(header.unit if header.unit[:1] in ("", "/") else f"({header.unit})")


def _cell(entry: Entry, header: Header) -> str:
    text = escape(entry.text)
    if header.numeric and entry.text == "-":
        text = "--"
    elif header.numeric and entry.text[:1] in ("+", "-"):
        text = f"${text}$"
    if entry.best:
        text = rf"\textbf{{{text}}}" if not text.startswith("$") else rf"$\mathbf{{{text[1:-1]}}}$"
    return f"{text} $\\pm$ {entry.spread.removeprefix('±')}" if entry.spread else text
