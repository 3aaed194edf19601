"""The GPU time of a plan, from past runs on GPUs and else from time limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lossbench.cells import Cell
from lossbench.plan import TO_RUN, UNDER_WAY, PlannedCell


@dataclass(frozen=True)
class GpuHours:
    """GPU time of what is to run: `expected` over cells with an estimate, and for those without one the `limit` that
    the suite's time limits set. None: there are no such cells, or no limit for some."""

    expected: float | None
    limit: float | None


def gpu_hours(plan: Iterable[PlannedCell], demand: Callable[[Cell], tuple[float, float | None]]) -> GpuHours:
    """GPU-hours of the cells that a run would start or is running.

    Args:
        plan: made from the costs of runs on GPUs alone: a CPU's seconds say nothing here.
        demand: GPUs a cell asks for, and its time limit in minutes.
    """
    expected, limits = [], []
    for item in plan:
        gpus, minutes = demand(item.cell)
        if item.state not in TO_RUN | UNDER_WAY or not gpus:
            continue
        if item.estimate is not None:
            expected.append(gpus * item.estimate.seconds / 3600)
        else:
            limits.append(None if minutes is None else gpus * minutes / 60)
    bounds = [limit for limit in limits if limit is not None]
    return GpuHours(sum(expected) if expected else None, sum(bounds) if bounds and len(bounds) == len(limits) else None)
