"""Tables for a terminal, readable from 80 columns; piped, plain text of ASCII symbols without escape codes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rich.box import Box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossbench.finescores import FINE
from lossbench.runs import Run
from lossbench.standings import COLUMNS, Block
from lossbench.views.grid import EXTRA, Grid, Header, base, chosen, class_grid, footer, runs_grid, summary_grid, wanted

#: A rule below the headers and nothing else: one for terminals, one of ASCII.
_RULE = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
_ASCII_RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_ASCII = str.maketrans({"±": "+-", "Δ": "diff", "×": "x", "·": "-", "–": "-", "—": "-", "…": "...", "†": "#"})
#: The first column is folded rather than wider than the one, and never made narrower than the other.
_WORDS_MAX, _WORDS_MIN = 36, 14
#: Below this a column of words cannot be read at all.
_NARROWEST = 8


def render(
    blocks: Sequence[Block], console: Console, *, per_class: bool = False, columns: Sequence[str] | None = None
) -> None:
    """Print every block: title, table, footer; with `per_class` the IoU of each class between them. `columns` instead
    of those that fit; what is then too wide is left out from the right."""
    for number, block in enumerate(blocks):
        if number:
            console.print()
        print_title(block.title, console)
        keys = fitting(block, console, columns)
        draw(summary_grid(block, keys), console)
        if per_class:
            for grid in split_classes(class_grid(block), console):
                console.print()
                draw(grid, console)
        best = "bold" if console.is_terminal else "*"
        narrow = [COLUMNS[key].title for key in columns or () if key not in keys and key in COLUMNS]
        notes = [f"No room for {', '.join(narrow)}: a wider terminal, or another --format."] if narrow else []
        if block.sort not in (*keys, "loss") and not (per_class and block.sort in block.class_names):
            by = COLUMNS[block.sort].title if block.sort in COLUMNS else block.sort
            notes.append(f"Sorted by {by}, which is not shown: a wider terminal, --columns, or --per-class.")
        blank = [key for key in keys if key in FINE and any(math.isnan(row.value(key)) for row in block.rows)]
        if blank:
            titles = ", ".join(COLUMNS[key].title for key in blank)
            notes.append(f"No {titles} (-): not all records of the row hold counts for it, as those of older versions.")
        print_notes(
            [*footer(block, keys), *notes, f"Best of a column: {best}; its lead may be within the noise."], console
        )


def render_runs(runs: Sequence[Run], console: Console) -> None:
    """Print one row per run, a table for each dataset and backbone."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(f"{run.record.labels['dataset']} / {run.record.labels['backbone']}", []).append(run)
    for number, (title, members) in enumerate(groups.items()):
        if number:
            console.print()
        print_title(title, console)
        draw(runs_grid(members), console)
        reasons = sorted({reason for run in members for reason in run.stale})
        notes = ["`lossbench show ID` prints all of a run; the start of its id is enough."]
        if reasons:
            notes.append(f"Stale (~), made by other code than is here now: {'; '.join(reasons)}.")
        print_notes(notes, console)


def fitting(block: Block, console: Console, columns: Sequence[str] | None = None) -> list[str]:
    """The columns that fit: those of `base`, in its order, with the first column folded if need be; then as many of
    EXTRA as there is room for beside the whole first column. Columns without a single value are left out.
    Of `columns`, if given, those that fit."""
    usual = chosen(columns, block) or wanted(base(block), block)
    if columns is None and len({row.n for row in block.rows}) > 1:
        usual.insert(1, "n")
    first = _column(summary_grid(block, []), 0, console).width
    narrow = min(_WORDS_MAX, max([_WORDS_MIN, *(len(row.label.partition("(")[0]) for row in block.rows)]))
    taken = 0

    def fits(key: str, words: int) -> bool:
        """Whether there is room for one more column; if so, it is taken."""
        nonlocal taken
        more = 1 + _column(summary_grid(block, [key]), 1, console).width  # rich puts a blank between columns
        if min(first, words) + taken + more > console.width:
            return False
        taken += more
        return True

    keys: list[str] = []
    for key in usual:
        if not fits(key, narrow) and keys:
            return keys
        keys.append(key)
    for key in EXTRA if columns is None else ():
        if key in keys or all(line[-1].text == "-" for line in summary_grid(block, [key]).rows):
            continue
        if not fits(key, _WORDS_MAX):
            break
        keys.append(key)
    return keys


def draw(grid: Grid, console: Console) -> None:
    """Print a grid as a rich table; the first column takes what the others leave and folds. What does not fit even
    so is left out, from the right."""
    columns = [_column(grid, index, console) for index in range(len(grid.headers))]
    while (others := sum(column.width + 1 for column in columns[1:])) > console.width - _NARROWEST:
        columns.pop()  # rich puts a blank between columns: the 1
    room = min(columns[0].width, console.width - others)
    table = Table(
        box=_RULE if console.is_terminal else _ASCII_RULE,
        show_edge=False,
        pad_edge=False,
        padding=0,
        header_style="bold" if console.is_terminal else "",
    )
    if all(not column.heading[-1].strip() for column in columns):  # no column has a unit
        for column in columns:
            column.heading.pop()
    height = max(len(column.heading) for column in columns)
    for index, column in enumerate(columns):
        heading = "\n".join([""] * (height - len(column.heading)) + column.heading)
        table.add_column(Text(heading), width=column.width if index else room, no_wrap=index > 0, overflow="fold")
    headings, place = {}, len(grid.rows)
    for heading, apart in grid.apart:
        headings[place] = heading
        place += len(apart)
    for place, line in enumerate(zip(*(column.cells for column in columns), strict=True)):
        if place in headings:
            table.add_section()
            table.add_row(safe(headings[place], console))
        table.add_row(_folded(line[0], room), *line[1:])
    emit(table, console)


def print_title(title: str, console: Console) -> None:
    emit(Text(safe(title, console), style="bold"), console)
    console.print()


def print_notes(notes: Sequence[str], console: Console) -> None:
    console.print()
    for note in notes:
        emit(Text(safe(note, console), style="dim" if console.is_terminal else ""), console)


def emit(renderable: Table | Text, console: Console) -> None:
    """Print; piped, without the blanks that rich pads lines with: they would end up in files and diffs."""
    if console.is_terminal:
        console.print(renderable)
        return
    text = "".join(segment.text for segment in console.render(renderable))
    for line in text.splitlines():
        console.print(line.rstrip(), markup=False, highlight=False, emoji=False, soft_wrap=True)


def safe(text: str, console: Console) -> str:
    """`text` as the console can show it: our symbols in ASCII when piped or without UTF-8; and '?' for what its
    encoding lacks."""
    return _shower(console)(text)


def _shower(console: Console) -> Callable[[str], str]:
    """`safe` for many texts: what the console can show is asked once."""
    encoding = console.encoding
    symbols = console.is_terminal and encoding.lower().startswith("utf")

    def show(text: str) -> str:
        text = text if symbols else text.translate(_ASCII)
        return text.encode(encoding, "replace").decode(encoding)

    return show


# --- layout ---


@dataclass
class _Drawn:
    """A column laid out: `heading` by line; `width` holds one trailing blank, in which a * may stand."""

    heading: list[str]
    cells: list[Text]
    width: int


def _column(grid: Grid, index: int, console: Console) -> _Drawn:
    """A column in the console's own symbols, its values and spreads aligned.

    The best value is bold and green on a terminal; elsewhere a * follows it, in the gap to the next column.
    """
    header = grid.headers[index]
    entries = [line[index] for line in grid.lines]
    plain, show = not console.is_terminal, _shower(console)
    values = [show(entry.text) for entry in entries]
    spreads = [show(entry.spread) for entry in entries]
    value_width = max((cell_len(value) for value in values), default=0)
    spread_width = max((cell_len(spread) for spread in spreads), default=0)
    heading = [show(line) for line in (*header.title.split("\n"), header.unit)]
    cells = []
    for entry, value, spread in zip(entries, values, spreads, strict=True):
        cell = Text(value.rjust(value_width) if header.numeric else value, style="bold green" if entry.best else "")
        if spread_width:
            cell.append(" " + spread.rjust(spread_width), style="not bold dim default")
        cells.append(cell)
    width = max(cell_len(part) for part in [*heading, *(cell.plain for cell in cells)])
    for cell, entry in zip(cells, entries, strict=True):
        if header.numeric:
            cell.pad_left(width - cell.cell_len)
        cell.append("*" if plain and entry.best else " ")
    return _Drawn([line.rjust(width) if header.numeric else line for line in heading], cells, width + 1)


def _width(grid: Grid, console: Console, words: int) -> int:
    """Columns of the terminal a grid takes, its first column no wider than `words`."""
    widths = [_column(grid, index, console).width for index in range(len(grid.headers))]
    return min(widths[0], words) + sum(widths[1:]) + len(widths) - 1  # rich puts a blank between columns


def _folded(cell: Text, room: int) -> Text:
    """A label too long for its column starts a new line at its parameters, and is wrapped by rich from there; a word
    too long for a line breaks at its '='."""
    head, bracket, rest = cell.plain.partition("(")
    if not bracket or cell.cell_len <= room + 1:
        return cell
    rest, _, marks = rest.rstrip().rpartition(" ") if rest.rstrip()[-1] in "!~" else (rest, "", "")
    words = f"({rest}".split(" ")
    words = [word.replace("=", "=\n", 1) if word.find("=") < room < len(word) else word for word in words]
    return Text("\n".join([f"{head} {marks}".rstrip(), " ".join(words)]), style=cell.style)


def split_classes(grid: Grid, console: Console) -> list[Grid]:
    """A class table in pieces that fit: each repeats the class column, the first has share and group, too.
    The parameters of a loss are folded in the header."""
    headers = [*grid.headers[:3], *(replace(h, title=_stacked(h.title)) for h in grid.headers[3:])]
    pieces: list[list[int]] = [[0, 1, 2]]
    for index in range(3, len(headers)):
        tried = _pick(headers, grid, [*pieces[-1], index])
        if _width(tried, console, _WORDS_MAX) > console.width and len(pieces[-1]) > 1:
            pieces.append([0])
        pieces[-1].append(index)
    return [_pick(headers, grid, piece) for piece in pieces]


def _stacked(label: str) -> str:
    head, bracket, rest = label.partition("(")
    return "\n".join([head, *textwrap.wrap(bracket + rest, 14, break_long_words=False)])


def _pick(headers: Sequence[Header], grid: Grid, columns: Sequence[int]) -> Grid:
    return Grid([headers[i] for i in columns], [[line[i] for i in columns] for line in grid.rows])
