"""`lossbench status`: how far a suite is, cell by cell."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from lossbench.cli.common import (
    DEFAULT_RESULTS,
    JsonOption,
    PluginOption,
    ResultsOption,
    SuiteArgument,
    print_json,
    stdout,
)


def status(
    suite: SuiteArgument,
    results: ResultsOption = DEFAULT_RESULTS,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show what became of every cell of a suite: done, running and how far, stopped, failed and why.

    \b
    Example:
      lossbench status quickstart
    """
    from lossbench import metrics
    from lossbench.history import StoreHistory
    from lossbench.plan import make_plan
    from lossbench.store import Store
    from lossbench.suite import load_suite

    loaded = load_suite(suite, plugins=plugin or ())
    store = Store(results)
    history = StoreHistory(store, loaded.registries)
    rows: list[dict[str, Any]] = []
    for item in make_plan(loaded.cells(), history):
        record = history.record(item.cell)
        rows.append(
            {
                "cell": item.cell.name,
                "id": item.cell.id,
                "state": item.state,
                "progress": round(item.progress, 3),
                "miou": None if record is None else round(float(metrics.mean(metrics.iou(record.confusion))), 6),
                "why": list(item.reasons),
                "log": str(store.run_dir(item.cell.id) / "log.txt"),
            }
        )
    if json:
        print_json({"suite": loaded.name, "cells": rows})
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("cell", "state"):
        table.add_column(name, overflow="fold")
    table.add_column("mIoU %", justify="right", no_wrap=True)
    for row in rows:
        share = f" {100 * row['progress']:.0f} %" if row["state"] in ("running", "interrupted") else ""
        miou = "" if row["miou"] is None else f"{100 * row['miou']:.2f}"
        table.add_row(row["cell"], row["state"] + share, miou)
    console = stdout()
    console.print(table)
    for row in rows:
        if row["why"]:
            console.print(f"{row['state']}: {row['cell']}: {'; '.join(row['why'])}", soft_wrap=True)
        if row["state"] == "failed":
            console.print(f"  log: {row['log']}", soft_wrap=True)
    done = sum(row["state"] in ("done", "stale") for row in rows)
    console.print(f"{loaded.name}: {done} of {len(rows)} cells done", soft_wrap=True)
