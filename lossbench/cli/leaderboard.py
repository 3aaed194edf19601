"""`lossbench leaderboard`: what the records say."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lossbench.cli.arguments import Option
from lossbench.cli.common import (
    DEFAULT_RESULTS,
    BackboneGlob,
    DatasetGlob,
    FreshOption,
    LossGlob,
    PluginOption,
    ResultsOption,
    choose,
    open_store,
    registries,
    require_reference,
)
from lossbench.errors import ConfigError, SetupError

if TYPE_CHECKING:
    from rich.console import Console

    from lossbench.index import IndexUse
    from lossbench.leaderboard import Stale
    from lossbench.published import PublishedTable
    from lossbench.runs import Run
    from lossbench.runtable import RunTable

    Content = str | Callable[[Console], None]


class Format(StrEnum):
    table = "table"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    json = "json"


class TestName(StrEnum):
    """Names of `significance.TESTS`."""

    t = "t"
    permutation = "permutation"
    wilcoxon = "wilcoxon"


#: Columns of a table that goes into a file.
_FILE_WIDTH = 120


def leaderboard(
    dataset: DatasetGlob = "*",
    backbone: BackboneGlob = "*",
    loss: LossGlob = "*",
    sort: Annotated[
        str, Option(help="Best first by: miou, delta, tail_miou, ms_per_step ..., loss, or a class name.")
    ] = "miou",
    reference: Annotated[
        str, Option("--reference", "--versus", help="Loss that differences and time ratios refer to.")
    ] = "ce",
    equivalence: Annotated[
        float | None,
        Option(
            metavar="MARGIN",
            help="Test differences: are they 0, are they within ± this many points?",
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        TestName | None,
        Option(
            "--test",
            help="Test differences over seeds, with Holm's correction over all rows, shown or not.",
            show_default=False,
        ),
    ] = None,
    bootstrap: Annotated[
        int | None,
        Option(
            "--bootstrap",
            metavar="N",
            help="Add intervals from N resamples of seeds and images, e.g. 10000.",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        Option(
            metavar="LIST",
            help="Show these columns, commas between; fine: image-wise, worst images, boundaries, calibration.",
            show_default=False,
        ),
    ] = None,
    track: Annotated[
        str, Option(metavar="TRACK", help="as-is, tuned (see `lossbench tuning`), or all.", show_default=True)
    ] = "all",
    per_class: Annotated[bool, Option("--per-class", help="Add the IoU of every class.")] = False,
    runs: Annotated[bool, Option("--runs", help="One row per run instead of one per loss.")] = False,
    fresh: FreshOption = False,
    format: Annotated[
        Format | None, Option("--format", "-f", help="How to write it. Default: table.", show_default=False)
    ] = None,
    json: Annotated[bool, Option("--json", help="Short for --format json.")] = False,
    output: Annotated[
        Path | None, Option("--output", "-o", help="Write to this file.", dir_okay=False, show_default=False)
    ] = None,
    published: Annotated[
        bool, Option("--published", help="Show what papers printed beside it: marked, never ranked.")
    ] = False,
    results: ResultsOption = DEFAULT_RESULTS,
    plugin: PluginOption = None,
    no_index: Annotated[bool, Option("--no-index", help="Read every record file.")] = False,
    trust_index: Annotated[
        bool,
        Option("--trust-index", help="Take the index as it is; up to 0.1 % of the records may be newer."),
    ] = False,
) -> None:
    """Compare losses: mean and spread over seeds, and the paired difference to the reference.

    Scores are in percent. Runs of another dataset, backbone or protocol never share a table.

    \b
    Example:
      lossbench leaderboard --dataset streets --per-class --format markdown
      lossbench leaderboard --equivalence 0.3
      lossbench leaderboard --columns fine --dataset camvid
      lossbench leaderboard --versus ce --test permutation --bootstrap 10000
    """
    from lossbench.provenance import stale_reasons

    chosen = _format(format, json)
    choose(track, ("as-is", "tuned", "all"), "track")
    if no_index and trust_index:
        raise ConfigError("--no-index and --trust-index contradict each other", hint="give one of them, or neither")
    _check_margin(equivalence, runs=runs)
    _check_tests(test, bootstrap, runs=runs)
    stale = partial(stale_reasons, registries=registries(plugin))
    use: IndexUse = "off" if no_index else "trusted" if trust_index else "checked"
    table, warnings = open_store(results).runs(use)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    patterns = {"dataset": dataset, "backbone": backbone, "loss": loss}
    tables = _published(patterns, runs=runs) if published else None
    if not tables:
        _need_records(table, patterns, results)
    write = partial(_write, output=output)
    if runs:
        _write_runs(_shown(table, patterns, stale, fresh, track), stale, chosen, write)
        return
    from lossbench.leaderboard import column_keys
    from lossbench.tuning.board import build_tracks

    keys = column_keys(columns) if columns is not None else None
    # Of all records, not of those found: the reference may be a loss that --loss leaves out.
    options = {**patterns, "sort": sort, "include_stale": not fresh}
    blocks = build_tracks(table, track=track, reference=reference, stale=stale, **options)
    if equivalence is not None:
        for block in blocks:
            block.ask_tests(equivalence)
    for block in blocks:
        if test is not None:
            block.ask_significance(test.value)
        if bootstrap is not None:
            from lossbench.resampling import ask_bootstrap

            ask_bootstrap(block, bootstrap)
    if not tables:
        _need(blocks, fresh)
        require_reference(blocks, reference)
    alone: list[PublishedTable] = []
    if tables:
        from lossbench.published import attach

        alone = attach(blocks, tables)
    if chosen is Format.table:
        from lossbench.views import terminal

        def draw(console: Console) -> None:
            terminal.render(blocks, console, per_class=per_class, columns=keys)
            if alone:
                from lossbench.views.published import render

                render(alone, console, after=bool(blocks))

        write(draw)
    elif chosen is Format.markdown:
        from lossbench.views import markdown

        write(markdown.render(blocks, per_class=per_class, published=alone, columns=keys))
    elif chosen is Format.latex:
        from lossbench.views import latex

        write(latex.render(blocks, per_class=per_class, published=alone, columns=keys))
    elif chosen is Format.csv:
        from lossbench.views import data

        write(data.render_csv(blocks, per_class=per_class, published=tables))
    else:
        from lossbench.views import data

        write(data.render_json(blocks, warnings, tables))


def _check_margin(margin: float | None, *, runs: bool) -> None:
    if margin is None:
        return
    if not 0 < margin < math.inf:
        raise ConfigError(f"--equivalence {margin:g}: the margin must be positive", hint="in mIoU points, e.g. 0.3")
    if runs:
        raise ConfigError("--runs and --equivalence contradict each other", hint="tests are on the seeds of a loss")


def _check_tests(test: TestName | None, resamples: int | None, *, runs: bool) -> None:
    if runs and (test is not None or resamples is not None):
        given = "--test" if test is not None else "--bootstrap"
        raise ConfigError(f"--runs and {given} contradict each other", hint="tests are on the seeds of a loss")
    if resamples is not None and not 100 <= resamples <= 1_000_000:
        raise ConfigError(f"--bootstrap {resamples}: 100 to 1,000,000 resamples", hint="10000 is usual")


def _published(patterns: Mapping[str, str], *, runs: bool) -> list[PublishedTable]:
    if runs:
        raise ConfigError("--runs and --published contradict each other", hint="papers print no single runs")
    from lossbench.published import load, select

    tables = select(load(), **patterns)
    if not tables:
        known = sorted({table.dataset for table in load()})
        print(f"note: no published table matches; there are tables of {', '.join(known)}", file=sys.stderr)
    return tables


def _need_records(table: RunTable, patterns: Mapping[str, str], results: Path) -> None:
    from lossbench.selection import require_match

    if not len(table):
        raise ConfigError(
            f"no records in {results}",
            hint="run a suite first, e.g. `lossbench run quickstart`, or name another directory with --results",
        )
    require_match(table.conditions, patterns)


def _format(given: Format | None, json: bool) -> Format:
    if json and given not in (None, Format.json):
        raise ConfigError(f"--json and --format {given} contradict each other", hint="give one of them")
    return Format.json if json else given or Format.table


def _shown(table: RunTable, patterns: Mapping[str, str], stale: Stale, fresh: bool, track: str) -> list[Run]:
    """The runs of a track that match all globs, read from their files; trials are of none."""
    from lossbench.leaderboard import parts
    from lossbench.readmany import read_record
    from lossbench.runs import Run
    from lossbench.selection import matches, select
    from lossbench.store import StoredRecord
    from lossbench.tuning.tracks import AS_IS, TUNED, track_of

    tracks = {"as-is": (AS_IS,), "tuned": (TUNED,)}.get(track, (AS_IS, TUNED))
    wanted = [part for part in parts(table) if track_of(part.condition.cell["protocol"]) in tracks]
    rows = sorted(row for part in wanted if matches(part.condition, **patterns) for row in part.rows.tolist())
    found = [StoredRecord(read_record(table.path(row)), table.path(row)) for row in rows]
    runs = [Run(stored, tuple(stale(stored.record))) for stored in select(found, **patterns)] if found else []
    shown = [run for run in runs if not (fresh and run.stale)]
    _need(shown, fresh and bool(runs))
    return shown


def _write_runs(runs: Sequence[Run], stale: Stale, chosen: Format, write: Callable[[Content], None]) -> None:
    if chosen is Format.table:
        from lossbench.views import terminal

        write(lambda console: terminal.render_runs(runs, console))
    elif chosen is Format.markdown:
        from lossbench.views import markdown

        write(markdown.render_runs(runs))
    elif chosen is Format.latex:
        from lossbench.views import latex

        write(latex.render_runs(runs))
    else:
        from lossbench.leaderboard import run_rows
        from lossbench.views import data

        rows = run_rows([run.stored for run in runs], stale)
        write(data.csv_text(rows) if chosen is Format.csv else data.json_text(rows))


def _need(shown: Sequence[object], fresh: bool) -> None:
    if not shown and not fresh:
        raise ConfigError("no matching run is of that track", hint="trials of a search: `lossbench tuning SUITE`")
    if not shown:
        raise ConfigError("every matching run is stale", hint="leave out --fresh to see them, or run the suite again")


def _write(content: Content, output: Path | None) -> None:
    """To standard output, or to a file whose folder is created; tables in files are plain text."""
    from rich.console import Console

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
