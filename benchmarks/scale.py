"""Growth with the number of cells: stub cells through the local scheduler, then plan, status and leaderboard over what
they left. `python -m benchmarks.scale docs/scale.json docs/scale.svg` draws the figure of a stored report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT, Options, Row, Spread, Table, environment
from benchmarks.stubs import write_suite

COUNTS = (1_000, 3_000, 10_000)
QUICK = (20, 40)
VERBS = ("plan", "status", "leaderboard")
SCHEDULER = "scheduler"


@dataclass(frozen=True)
class Size:
    """What one process took for a suite of so many cells: wall and CPU seconds, peak memory."""

    cells: int
    seconds: float
    cpu_s: float
    peak_mib: float


def run(options: Options, counts: Sequence[int] = ()) -> list[Table]:
    """Args: counts: other numbers of cells than COUNTS."""
    counts = counts or (QUICK if options.quick else COUNTS)
    found: dict[str, list[Size]] = {name: [] for name in (SCHEDULER, *VERBS)}
    for cells in counts:
        with tempfile.TemporaryDirectory(prefix="lossbench_bench_") as folder:
            for name, size in _one_size(Path(folder), cells, rounds=1 if options.quick else 3):
                found[name].append(size)
    rows = [row for name, sizes in found.items() for row in _rows(name, sizes)]
    note = (
        "Stub cells do all that a cell does but train: a forked process, spec, claim, events, log, record and sidecar "
        "flushed to disk; the fork server imports no torch. CPU time and peak memory of the scheduler's process, or "
        f"of the verb's. Ratio: time a cell, to that of the smallest suite; 1 is linear growth. {os.cpu_count()} slots."
    )
    return [Table("Growth with the number of cells", f"a cell of {counts[0]:,}", rows, note)]


def _one_size(folder: Path, cells: int, *, rounds: int) -> list[tuple[str, Size]]:
    suite, results = write_suite(folder / "suite.yaml", cells), folder / "results"
    stubs = [sys.executable, "-m", "benchmarks.stubs", str(suite), str(results), str(os.cpu_count() or 1)]
    done = subprocess.run(stubs, capture_output=True, text=True, cwd=ROOT, env=environment(), check=True)
    said = json.loads(done.stdout)
    if said.get("done") != cells:
        raise RuntimeError(f"{cells} stub cells ended so: {said}")
    scheduler = Size(cells, said["seconds"], said["cpu_s"], said["peak_mib"])
    return [(SCHEDULER, scheduler), *verbs(folder, suite, results, cells, rounds)]


def verbs(folder: Path, suite: Path, results: Path, cells: int, rounds: int) -> list[tuple[str, Size]]:
    """The fastest of so many runs of each verb."""
    env, found = environment() | {"LOSSBENCH_CACHE": str(folder / "cache")}, []
    for verb in VERBS:
        what = [str(suite)] if verb != "leaderboard" else []
        command = [sys.executable, "-m", "lossbench", verb, *what, "--results", str(results)]
        sizes = [_process(command, env, cells) for _ in range(rounds)]
        found.append((verb, min(sizes, key=lambda size: size.seconds)))
    return found


#: Runs a command and prints what it took. A process starts with the peak memory of who started it, and this one's is
#: large: so a small one stands between.
_LAUNCHER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - started
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""


def _process(command: Sequence[str], env: dict[str, str], cells: int) -> Size:
    """Raises RuntimeError when it fails."""
    launcher = [sys.executable, "-S", "-c", _LAUNCHER, *command]
    code, *figures = json.loads(subprocess.run(launcher, cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True).stdout)
    if code:
        raise RuntimeError(f"{' '.join(command)}: exit code {code}")
    return Size(cells, *figures)


def _rows(name: str, sizes: Sequence[Size]) -> list[Row]:
    first = sizes[0].seconds / sizes[0].cells
    rows = []
    for size in sizes:
        ms, ratio = size.seconds * 1000, size.seconds / size.cells / first
        extra = {
            "cells": float(size.cells),
            "ms a cell": ms / size.cells,
            "CPU ms a cell": size.cpu_s * 1000 / size.cells,
            "peak MiB": size.peak_mib,
        }
        rows.append(Row(f"{name}, {size.cells:,}", Spread(ms, ms, ms), Spread(ratio, ratio, ratio), extra=dict(extra)))
    return rows


def draw(table: Table, path: Path) -> None:
    """CPU time (it does not depend on what else the machine does) and peak memory over the number of cells; a grey line
    grows linearly."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (times, memory) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    names = list(dict.fromkeys(row.name.rpartition(", ")[0] for row in table.rows))
    for name in names:
        rows = [row for row in table.rows if row.name.rpartition(", ")[0] == name]
        cells = [float(row.extra["cells"]) for row in rows]
        seconds = [float(row.extra["CPU ms a cell"]) * float(row.extra["cells"]) / 1000 for row in rows]
        times.plot(cells, [seconds[0] * count / cells[0] for count in cells], color="0.8", linewidth=3, zorder=0)
        times.plot(cells, seconds, marker="o", label=name)
        memory.plot(cells, [float(row.extra["peak MiB"]) for row in rows], marker="o", label=name)
    for axes, title in ((times, "CPU time, s (grey: linear growth)"), (memory, "peak memory, MiB")):
        axes.set(xscale="log", xlabel="cells of the suite", title=title)
        axes.grid(alpha=0.3)
    times.set_yscale("log")
    memory.set_ylim(bottom=0)
    times.legend()
    matplotlib.rcParams["svg.hashsalt"] = "lossbench"  # the same figures, the same file
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main(report: str, figure: str) -> None:
    stored = json.loads(Path(report).read_text())["groups"]["scale"]
    draw(Table.from_json(stored[0]), Path(figure))


if __name__ == "__main__":
    main(*sys.argv[1:])
