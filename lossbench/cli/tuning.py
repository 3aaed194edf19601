"""`lossbench tuning`: the whole curve of equal tuning."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.common import (
    DEFAULT_RESULTS,
    BackboneGlob,
    DatasetGlob,
    JsonOption,
    LossGlob,
    PluginOption,
    ResultsOption,
    open_store,
)
from lossbench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossbench.tuning.curves import Group


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"


def tuning(
    suite: Annotated[
        str | None,
        Argument(metavar="[SUITE]", help="Its searches, finished or not. Default: those behind all tuned runs."),
    ] = None,
    dataset: DatasetGlob = "*",
    backbone: BackboneGlob = "*",
    loss: LossGlob = "*",
    reference: Annotated[str, Option(help="Loss that comes first.")] = "ce",
    format: Annotated[
        Format | None, Option("--format", "-f", help="How to write it. Default: table.", show_default=False)
    ] = None,
    results: ResultsOption = DEFAULT_RESULTS,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show every trial of the searches of `tune:`, what was chosen, and what fewer trials would have found.

    Scores are hold-out mIoU in percent: of images held out of the training split, never of the reported one. A suite
    with `tune:` runs the trials; `lossbench leaderboard --track tuned` shows what the chosen settings are worth.

    \b
    Example:
      lossbench tuning tuned_streets
    """
    if json and format not in (None, Format.json):
        raise ConfigError(f"--json and --format {format} contradict each other", hint="give one of them")
    from lossbench.tuning.curves import chosen_groups

    groups, warnings = read_groups(suite, results, plugin)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    groups = [
        group.ordered(reference) for group in chosen_groups(groups, dataset=dataset, backbone=backbone, loss=loss)
    ]
    if not groups:
        raise ConfigError("no search matches --dataset, --backbone and --loss", hint="widen one of them")
    from lossbench.views import tuning as view

    if json or format is Format.json:
        sys.stdout.write(view.render_json(groups, warnings))
    elif format is Format.csv:
        sys.stdout.write(view.render_csv(groups))
    else:
        from lossbench.cli.common import stdout

        view.render(groups, stdout())


def read_groups(suite: str | None, results: Path, plugin: Sequence[Path] | None) -> tuple[list[Group], list[str]]:
    """The searches of a suite, or of the records, and a line for each record that had to be skipped. Raises ConfigError
    when there is none."""
    from lossbench.tuning.curves import of_records, of_suite

    table, warnings = open_store(results).runs()
    if suite is None:
        groups = of_records(table)
        if not groups:
            raise ConfigError(
                f"no tuned runs in {results}",
                hint="`lossbench run` a suite with `tune:`, e.g. tuned_streets; name it to see a search before its end",
            )
        return groups, warnings
    from lossbench.suite import load_suite

    loaded = load_suite(suite, plugins=plugin or ())
    if loaded.tune is None:
        raise ConfigError(f"{loaded.file}: it has no `tune:`", hint="docs/tuning.md says how to write one")
    return of_suite(loaded.searches(), table), warnings
