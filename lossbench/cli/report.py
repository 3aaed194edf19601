"""`lossbench report`: records as a folder of web pages."""

from __future__ import annotations

import math
import os
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lossbench.cli.arguments import Option
from lossbench.cli.common import (
    DEFAULT_RESULTS,
    DataRootOption,
    FreshOption,
    PluginOption,
    ResultsOption,
    open_store,
    registries,
    require_reference,
)
from lossbench.errors import ConfigError

if TYPE_CHECKING:
    from lossbench.site.model import Site


def report(
    out: Annotated[Path, Option("--out", "-o", metavar="DIR", help="Folder to write; an earlier report is replaced.")],
    dataset: Annotated[str, Option(help="Only datasets that match this glob.", show_default=False)] = "*",
    backbone: Annotated[str, Option(help="Only backbones that match this glob.", show_default=False)] = "*",
    reference: Annotated[
        str, Option("--reference", "--versus", help="Loss that differences and time ratios refer to.")
    ] = "ce",
    equivalence: Annotated[
        float | None,
        Option(metavar="MARGIN", help="Mark losses within ± this many points as the same.", show_default=False),
    ] = None,
    suite: Annotated[
        str | None,
        Option(metavar="SUITE", help="Say which cells of this suite have no run yet.", show_default=False),
    ] = None,
    runs: Annotated[int, Option("--runs", metavar="N", help="Most runs with a page of their own; 0: none.")] = 5000,
    fresh: FreshOption = False,
    title: Annotated[str, Option(help="Title of the report.")] = "lossbench",
    stamp: Annotated[
        str | None,
        Option(help="Time of making to print. Default: SOURCE_DATE_EPOCH, else now.", show_default=False),
    ] = None,
    results: ResultsOption = DEFAULT_RESULTS,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
) -> None:
    """Write the leaderboards as a folder of static web pages that works offline.

    Overview, a leaderboard with figures per dataset and backbone, a page per loss and per run. Open DIR/index.html, or
    publish the folder as it is. Needs the extra `report`: pip install 'lossbench[report]'.

    \b
    Example:
      lossbench report --out site
    """
    if equivalence is not None and not 0 < equivalence < math.inf:
        raise ConfigError(
            f"--equivalence {equivalence:g}: the margin must be positive", hint="in mIoU points, e.g. 0.3"
        )
    if runs < 0:
        raise ConfigError(f"--runs {runs}: the number must not be negative", hint="0 leaves run pages out")
    from lossbench.site.render import require

    require()
    from lossbench.provenance import stale_reasons
    from lossbench.selection import require_match
    from lossbench.site.build import Wishes, write_report
    from lossbench.site.model import collect

    known = registries(plugin)
    store = open_store(results)
    table, warnings = store.runs("checked")
    if not len(table):
        raise ConfigError(f"no records in {results}", hint="run a suite first, e.g. `lossbench run quickstart`")
    require_match(table.conditions, {"dataset": dataset, "backbone": backbone, "loss": "*"})
    site = collect(
        table, dataset=dataset, backbone=backbone, reference=reference, margin=equivalence,
        stale=partial(stale_reasons, registries=known), include_stale=not fresh, warnings=warnings,
    )  # fmt: skip
    if not site.boards:
        raise ConfigError("every matching run is stale", hint="leave out --fresh to see them, or run the suite again")
    require_reference([board.block for board in site.boards], reference)
    if suite is not None:
        _with_suite(site, suite, plugin or [])
    wishes = Wishes(title, stamp or _now(), runs, tuple(plugin or ()), data_root)
    warnings = [*warnings, *write_report(site, store, known["loss"], out, wishes, _say)]
    for warning in warnings:
        _say(f"warning: {warning}")
    sys.stdout.write(f"{out / 'index.html'}\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _with_suite(site: Site, suite: str, plugins: list[Path]) -> None:
    from lossbench.site.model import suite_gaps
    from lossbench.suite import load_suite
    from lossbench.tuning.curves import scores_by_id

    loaded = load_suite(suite, plugins=plugins)
    score, _ = scores_by_id(site.table)
    known = loaded.known(lambda cell: score(cell.id))
    site.suite, site.suite_gaps, site.suite_ahead = loaded.name, suite_gaps(known.cells, site.table), known.ahead


def _now() -> str:
    """The time of making, or that of SOURCE_DATE_EPOCH (reproducible-builds.org), in UTC."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch and not epoch.isdigit():
        raise ConfigError(f"SOURCE_DATE_EPOCH is no number of seconds: '{epoch}'", hint="give it one, or unset it")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC")
