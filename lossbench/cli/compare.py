"""`lossbench compare`: two losses, or two folders of records, against each other."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.blocks import read_blocks
from lossbench.cli.common import DEFAULT_RESULTS, FreshOption, JsonOption, PluginOption, ResultsOption
from lossbench.errors import ConfigError

if TYPE_CHECKING:
    from lossbench.runtable import RunTable


class Format(StrEnum):
    table = "table"
    markdown = "markdown"
    csv = "csv"
    json = "json"


def compare(
    ours: Annotated[str, Argument(metavar="A", help="A loss (label, name or glob), or a folder of records.")],
    theirs: Annotated[str, Argument(metavar="B", help="What A is compared with: a loss, or a folder.")],
    dataset: Annotated[str, Option(help="Only datasets that match this glob.", show_default=False)] = "*",
    backbone: Annotated[str, Option(help="Only backbones that match this glob.", show_default=False)] = "*",
    fresh: FreshOption = False,
    format: Annotated[
        Format | None, Option("--format", "-f", help="How to write it. Default: table.", show_default=False)
    ] = None,
    results: ResultsOption = DEFAULT_RESULTS,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Compare two losses class by class, or two folders of records cell by cell.

    Two losses: the difference in IoU of every class, paired over seeds, commonest class first, and its slope over class
    frequency: how much the loss moves the tail. Two folders (of two machines, or made by two versions of the code;
    `results/replaced` holds what `run --rerun-stale` replaced): in which cells TP, FP and FN of every class are
    equal, and how far apart the others are. A bare name is a loss unless both are folders; `./ce` is a folder.

    \b
    Example:
      lossbench compare lovasz_softmax ce --dataset camvid
      lossbench compare results ../laptop/results
    """
    if json and format not in (None, Format.json):
        raise ConfigError(f"--json and --format {format} contradict each other", hint="give one of them")
    json = json or format is Format.json
    folders = [text for text in (ours, theirs) if _is_folder(text)]
    if len(folders) == 2:
        _folders(Path(ours), Path(theirs), format, json=json)
        return
    paths = [text for text in folders if not _is_bare(text)]
    if paths:
        other = theirs if paths[0] == ours else ours
        raise ConfigError(f"{paths[0]} is a folder, '{other}' is none", hint="name two folders, or two losses")
    patterns = {"dataset": dataset, "backbone": backbone, "loss": "*"}
    blocks, warnings = read_blocks(results, patterns, fresh=fresh, plugin=plugin, sort="loss")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    from lossbench.contrast import compare_losses
    from lossbench.views import contrast as view

    try:
        contrasts, missing = compare_losses(blocks, ours, theirs)
    except ConfigError as error:
        if folders:  # perhaps it was meant
            hint = f"{error.hint or 'name two losses'}; or two folders: '{folders[0]}' is one here"
            raise ConfigError(error.message, hint=hint) from None
        raise
    if json:
        sys.stdout.write(view.render_json(contrasts, missing))
    elif format is Format.markdown:
        sys.stdout.write(view.render_markdown(contrasts, missing))
    elif format is Format.csv:
        sys.stdout.write(view.render_csv(contrasts))
    else:
        from lossbench.cli.common import stdout

        view.render(contrasts, missing, stdout())


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):  # longer than a name may be, or with a character that none has
        return False


def _is_bare(text: str) -> bool:
    return Path(text).name == text


def _folders(ours: Path, theirs: Path, format: Format | None, *, json: bool) -> None:
    from lossbench.foldercontrast import compare_tables
    from lossbench.views import foldercontrast as view

    if format in (Format.markdown, Format.csv):
        raise ConfigError("folders are compared as a table or as JSON", hint="leave out --format, or give --json")
    found = compare_tables(_table(ours), _table(theirs))
    if json:
        sys.stdout.write(view.render_json(found))
        return
    from lossbench.cli.common import stdout

    view.render(found, str(ours), str(theirs), stdout())


def _table(folder: Path) -> RunTable:
    """Of a results folder, or of a folder that holds records itself, as `results/replaced`."""
    from lossbench.index import read_table

    records = folder / "records" if (folder / "records").is_dir() else folder
    table, unread = read_table(records, None, "off")
    for bad in unread:
        print(f"warning: {bad.warning}", file=sys.stderr)
    if not len(table):
        raise ConfigError(f"no records in {folder}", hint="a results folder, or one with records in it")
    return table
