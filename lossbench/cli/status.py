"""`lossbench status`: how far a suite is, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lossbench.cli.common import (
    DEFAULT_RESULTS,
    JsonOption,
    PluginOption,
    ResultsOption,
    SuiteArgument,
    open_store,
    print_json,
    stdout,
)

if TYPE_CHECKING:
    from rich.table import Table

    from lossbench.cells import Cell


def status(
    suite: SuiteArgument,
    results: ResultsOption = DEFAULT_RESULTS,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show what became of every cell of a suite: done, queued, running and how far, stopped, failed and why.

    \b
    Example:
      lossbench status quickstart
    """
    from lossbench.history import StoreHistory
    from lossbench.plan import make_plan
    from lossbench.suite import load_suite
    from lossbench.tuning.tracks import title

    loaded = load_suite(suite, plugins=plugin or ())
    store = open_store(results)
    history = StoreHistory(store, loaded.registries)
    rows: list[dict[str, Any]] = []
    settings: dict[str, list[tuple[Cell, dict[str, Any]]]] = {}
    known = loaded.known(history.miou)
    for item in make_plan(known.cells, history):
        miou = history.miou(item.cell)
        rows.append(
            {
                "cell": item.cell.name,
                "id": item.cell.id,
                "state": item.state,
                "progress": round(item.progress, 3),
                "miou": None if miou is None else round(miou, 6),
                "why": list(item.reasons),
                "log": str(store.run_dir(item.cell.id) / "log.txt"),
            }
        )
        settings.setdefault(f"{item.cell.dataset.label} / {item.cell.backbone.label}{title(item.cell)}", []).append(
            (item.cell, rows[-1])
        )
    if json:
        ahead = {"trials": known.trials, "finals": known.finals}
        print_json({"suite": loaded.name, "cells": rows, **({"ahead": ahead} if loaded.tune else {})})
        return
    console = stdout()
    for setting, members in settings.items():
        console.print(setting, soft_wrap=True)
        console.print(_table(members))
    for row in rows:
        if row["why"]:
            console.print(f"{row['state']}: {row['cell']}: {'; '.join(row['why'])}", soft_wrap=True)
        if row["state"] == "failed":
            console.print(f"  log: {row['log']}", soft_wrap=True)
    done = sum(row["state"] in ("done", "stale") for row in rows)
    ahead_line = f"; {known.ahead}" if known.ahead else ""
    console.print(f"{loaded.name}: {done} of {len(rows)} cells done{ahead_line}", soft_wrap=True)


def _table(members: Sequence[tuple[Cell, Mapping[str, Any]]]) -> Table:
    """The cells of one dataset and backbone; what tells them apart is loss and seed."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("loss", overflow="fold")
    table.add_column("seed", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("mIoU %", justify="right", no_wrap=True)
    for cell, row in members:
        share = f" {100 * row['progress']:.0f} %" if row["state"] in ("running", "interrupted") else ""
        score = "" if row["miou"] is None else f"{100 * row['miou']:.2f}"
        name = f"{cell.loss.label} {cell.note}" if cell.note else cell.loss.label
        table.add_row(name, str(cell.seed), row["state"] + share, score)
    return table
