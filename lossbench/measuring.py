"""Timing as ratios within one process, and the peak memory of a call.

Candidates run interleaved in random order within one process, because absolute times drift by a factor of two on a
shared machine. A ratio is taken between neighbours of one round, and reported as the median over the rounds with its
quartiles. Memory is a fresh process's peak over what was resident before.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Work = Callable[[], object]
#: For processes that measure their own peak. A fixed threshold: every freed block goes back to the system at once and
#: cannot hide the next one.
PEAK_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}


@dataclass
class Spread:
    """Median and quartiles over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = sorted(values)
        if len(values) < 3:
            return cls(statistics.median(values), values[0], values[-1])
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)


def interleave(
    candidates: Mapping[str, Work],
    *,
    baseline: str,
    rounds: int,
    warmup: int = 1,
    sync: Work = lambda: None,
    repeat: int = 1,
) -> dict[str, tuple[Spread, Spread]]:
    """(milliseconds, ratio to `baseline` in the same round) of every candidate.

    Args:
        warmup: calls of each before the clock starts.
        sync: called before the clock is read, e.g. `torch.cuda.synchronize`.
        repeat: calls a measurement averages over, for work of microseconds.
    """
    order, random_order = list(candidates), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in order}
    for name in order:
        for _ in range(warmup):
            candidates[name]()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            random_order.shuffle(order)
            for name in order:
                sync()
                started = time.perf_counter()
                for _ in range(repeat):
                    candidates[name]()
                sync()
                times[name].append((time.perf_counter() - started) * 1000 / repeat)
    finally:
        gc.enable()
    base = times[baseline]
    return {
        name: (Spread.of(values), Spread.of(value / reference for value, reference in zip(values, base, strict=True)))
        for name, values in times.items()
    }


def peak_bytes(
    module: str, function: str, *arguments: str, threads: int = 2, environment: Mapping[str, str] = os.environ
) -> int:
    """Peak resident bytes of calling `work` beyond what was resident before, in a fresh process, where
    `work = module.function(*arguments)` prepares the inputs. Linux only."""
    command = [sys.executable, "-m", "lossbench.peak", module, function, *arguments]
    extra = PEAK_ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=dict(environment) | extra)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return int(done.stdout.split()[-1])
