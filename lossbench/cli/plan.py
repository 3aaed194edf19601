"""`lossbench plan`: what a run would do, without doing it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lossbench.cli.common import (
    DEFAULT_RESULTS,
    JsonOption,
    PluginOption,
    ResultsOption,
    SuiteArgument,
    duration,
    open_store,
    print_json,
    stdout,
    warn,
)

if TYPE_CHECKING:
    from lossbench.gpuhours import GpuHours
    from lossbench.plan import PlannedCell
    from lossbench.suite_schema import Resources

_SHOWN_REASONS = 8


def plan(
    suite: SuiteArgument,
    results: ResultsOption = DEFAULT_RESULTS,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show the cells of a suite by state, and how long the rest will take.

    The same as `lossbench run --dry-run`. Times come from past records of the nearest kind; GPU-hours from those made
    on GPUs, or from the suite's time limits. Nothing is started.

    \b
    Example:
      lossbench plan quickstart
    """
    from lossbench.gpuhours import gpu_hours
    from lossbench.history import StoreHistory
    from lossbench.plan import make_plan
    from lossbench.suite import load_suite

    loaded = load_suite(suite, plugins=plugin or ())
    history = StoreHistory(open_store(results), loaded.registries)
    known = loaded.known(history.miou)
    planned = make_plan(known.cells, history)
    for line in history.warnings:
        warn(line)
    on_gpus = make_plan(known.cells, history, gpus_only=True)
    hours = gpu_hours(on_gpus, lambda cell: _demand(loaded.resources_of(cell)))
    if json:
        ahead = {"ahead": {"trials": known.trials, "finals": known.finals}} if loaded.tune else {}
        print_json(plan_json(loaded.name, planned, hours) | ahead)
    else:
        print_plan(loaded.name, planned, hours)
        if known.ahead:
            stdout().print(f"{known.ahead}; they are not in the counts and times above", soft_wrap=True)


def _demand(resources: Resources) -> tuple[float, float | None]:
    return resources.gpus or 0.0, resources.minutes


def plan_json(name: str, planned: Sequence[PlannedCell], hours: GpuHours) -> dict[str, Any]:
    """A plan as `--json` shows it. Seconds are null where nothing comparable ever ran."""
    from lossbench.plan import summarise

    summary = summarise(planned)
    return {
        "suite": name,
        "states": dict(summary.states),
        "seconds": summary.seconds if summary.known else None,
        "unknown": summary.unknown,
        "gpu_hours": {"expected": hours.expected, "limit": hours.limit},
        "cells": [
            {
                "id": item.cell.id,
                "name": item.cell.name,
                "state": item.state,
                "reasons": list(item.reasons),
                "progress": item.progress,
                "seconds": item.estimate.seconds if item.estimate else None,
                "basis": item.estimate.basis if item.estimate else None,
            }
            for item in planned
        ],
    }


def print_plan(name: str, planned: Sequence[PlannedCell], hours: GpuHours) -> None:
    """A table for each dataset and backbone, a row for each loss, a column for each state that occurs."""
    from rich.table import Table

    from lossbench.plan import STATES, summarise
    from lossbench.tuning.tracks import title

    out = stdout()
    summary = summarise(planned)
    states = [state for state in STATES if state in summary.states]
    out.print(f"suite {name}: {len(planned)} cells", style="bold")
    by_setting = itertools.groupby(
        sorted(planned, key=lambda item: (item.cell.dataset.label, item.cell.backbone.label, title(item.cell))),
        key=lambda item: (item.cell.dataset.label, item.cell.backbone.label, title(item.cell)),
    )
    for (dataset, backbone, track), items in by_setting:
        rows: dict[str, list[PlannedCell]] = {}
        for item in items:
            rows.setdefault(item.cell.loss.label, []).append(item)
        apart = 2 if len(states) < len(STATES) else 1  # 80 columns suffice for all of them
        table = Table(box=None, padding=(0, apart, 0, 0), header_style="dim")
        table.add_column("loss", overflow="fold")
        for state in states:
            table.add_column(state, justify="right")
        table.add_column("time left", justify="right")
        for label, cells in rows.items():
            counts = Counter(item.state for item in cells)
            table.add_row(label, *(str(counts[state] or "") for state in states), _time_left(cells))
        out.print()
        out.print(f"{dataset} / {backbone}{track}", soft_wrap=True)
        out.print(table)
    out.print()
    out.print(_total(planned))
    if line := _gpu_line(hours):
        out.print(line)
    _print_reasons(planned)


def _time_left(cells: Iterable[PlannedCell]) -> str:
    from lossbench.plan import summarise

    summary = summarise(cells)
    if not summary.known:
        return "unknown" if summary.unknown else ""
    return duration(summary.seconds) + (" + ?" if summary.unknown else "")


def _total(planned: Sequence[PlannedCell]) -> str:
    from lossbench.plan import summarise

    summary = summarise(planned)
    parts = ", ".join(f"{count} {state}" for state, count in summary.states.items())
    if summary.known:
        parts += f"; about {duration(summary.seconds)} left, one cell after the other"
        parts += f" ({summary.unknown} cells of unknown time not counted)" if summary.unknown else ""
    elif summary.unknown:
        parts += "; time unknown: nothing comparable has run yet"
    return parts


def _gpu_line(hours: GpuHours) -> str:
    parts = []
    if hours.expected is not None:
        parts.append(f"about {hours.expected:,.1f} GPU-hours")
    if hours.limit is not None:
        parts.append(f"at most {hours.limit:,.0f} GPU-hours by the suite's time limits")
    return " and ".join(parts)


def _print_reasons(planned: Sequence[PlannedCell]) -> None:
    from rich.text import Text

    out = stdout()
    told = [item for item in planned if item.reasons]
    for item in told[:_SHOWN_REASONS]:
        line = Text.assemble((item.state, "yellow"), f" {item.cell.name} ({item.cell.id}): {'; '.join(item.reasons)}")
        out.print(line, soft_wrap=True)
    if len(told) > _SHOWN_REASONS:
        out.print(f"and {len(told) - _SHOWN_REASONS} more (--json shows all)")
