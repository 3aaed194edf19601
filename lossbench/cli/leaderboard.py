"""`lossbench leaderboard`: what the records say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lossbench import leaderboard as board
from lossbench.errors import ConfigError, SetupError
from lossbench.leaderboard import Stale
from lossbench.provenance import stale_reasons
from lossbench.registry import KINDS, Registry
from lossbench.standings import Run
from lossbench.store import Store
from lossbench.views import data, latex, markdown, terminal


class Format(StrEnum):
    table = "table"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    json = "json"


#: Columns of a table that goes into a file.
_FILE_WIDTH = 120


def leaderboard(
    dataset: Annotated[str, typer.Option(help="Only datasets that match this glob.", show_default=False)] = "*",
    backbone: Annotated[str, typer.Option(help="Only backbones that match this glob.", show_default=False)] = "*",
    loss: Annotated[str, typer.Option(help="Only losses that match this glob.", show_default=False)] = "*",
    sort: Annotated[
        str, typer.Option(help="Best first by: miou, delta, tail_miou, ms_per_step ..., loss, or a class name.")
    ] = "miou",
    reference: Annotated[str, typer.Option(help="Loss that differences and time ratios refer to.")] = "ce",
    per_class: Annotated[bool, typer.Option("--per-class", help="Add the IoU of every class.")] = False,
    runs: Annotated[bool, typer.Option("--runs", help="One row per run instead of one per loss.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Leave out runs made by other code than is here now.")] = False,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = Format.table,
    json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.", dir_okay=False, show_default=False)
    ] = None,
    results: Annotated[Path, typer.Option("--results", help="Results directory.", envvar="LOSSBENCH_RESULTS")] = Path(
        "results"
    ),
    plugin: Annotated[
        list[Path] | None, typer.Option("--plugin", help="Plugin file whose runs are shown (repeatable).")
    ] = None,
) -> None:
    """Compare losses: mean and spread over seeds, and the paired difference to the reference.

    Scores are in percent. Runs of another dataset, backbone or protocol never share a table.

    \b
    Example:
      lossbench leaderboard --dataset streets --per-class --format markdown
    """
    chosen = Format.json if json else format
    records, warnings = Store(results).read_all()
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not records:
        raise ConfigError(
            f"no records in {results}",
            hint="run a suite first, e.g. `lossbench run quickstart`, or name another directory with --results",
        )
    found = board.select(records, dataset=dataset, backbone=backbone, loss=loss)
    stale = partial(stale_reasons, registries={kind: Registry(kind, plugin or ()) for kind in KINDS})
    write = partial(_write, output=output)
    if runs:
        shown = [
            run for run in (Run(stored, tuple(stale(stored.record))) for stored in found) if not (fresh and run.stale)
        ]
        _need(shown)
        _write_runs(shown, stale, chosen, write)
        return
    # Of all records, not of those found: the reference may be a loss that --loss leaves out.
    blocks = board.build(
        records,
        dataset=dataset,
        backbone=backbone,
        loss=loss,
        sort=sort,
        reference=reference,
        stale=stale,
        include_stale=not fresh,
    )
    _need(blocks)
    if chosen is Format.table:
        write(lambda console: terminal.render(blocks, console, per_class=per_class))
    elif chosen is Format.markdown:
        write(markdown.render(blocks, per_class=per_class))
    elif chosen is Format.latex:
        write(latex.render(blocks, per_class=per_class))
    elif chosen is Format.csv:
        write(data.render_csv(blocks, per_class=per_class))
    else:
        write(data.render_json(blocks, warnings))


Content = str | Callable[[Console], None]


def _write_runs(runs: Sequence[Run], stale: Stale, chosen: Format, write: Callable[[Content], None]) -> None:
    stored = [run.stored for run in runs]
    if chosen is Format.table:
        write(lambda console: terminal.render_runs(runs, console))
    elif chosen is Format.markdown:
        write(markdown.render_runs(runs))
    elif chosen is Format.latex:
        write(latex.render_runs(runs))
    elif chosen is Format.csv:
        write(data.csv_text(board.run_rows(stored, stale)))
    else:
        write(data.json_text(board.run_rows(stored, stale)))


def _need(shown: Sequence[object]) -> None:
    if not shown:
        raise ConfigError("every matching run is stale", hint="leave out --fresh to see them, or run the suite again")


def _write(content: Content, output: Path | None) -> None:
    """To standard output, or to a file whose folder is created; tables in files are plain text."""
    if output is None:
        if isinstance(content, str):
            sys.stdout.write(content)
        else:
            content(Console())
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with open(output, "w", encoding="utf-8") as file:
            if isinstance(content, str):
                file.write(content)
            else:
                content(Console(file=file, width=_FILE_WIDTH))
    except OSError as error:
        raise SetupError(f"cannot write {output}: {error.strerror or error}", hint="choose another --output") from error
