"""Growth with the number of cells: stub cells through the local scheduler, then plan, status and leaderboard over what
they left. `python -m benchmarks.scale REPORT.json FIGURE.svg` draws the figure of a stored report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import ROOT, Options, Row, Spread, Table, environment
from benchmarks.stubs import write_suite

COUNTS = (1_000, 3_000, 10_000)
QUICK = (20, 40)
VERBS = ("plan", "status", "leaderboard")
SCHEDULER = "scheduler"


def run(options: Options, counts: Sequence[int] = ()) -> list[Table]:
    """Args: counts: other numbers of cells than COUNTS."""
    counts = counts or (QUICK if options.quick else COUNTS)
    found: dict[str, list[tuple[int, float, float]]] = {name: [] for name in (SCHEDULER, *VERBS)}
    for cells in counts:
        with tempfile.TemporaryDirectory(prefix="lossbench_bench_") as folder:
            for name, seconds, peak_mib in _one_size(Path(folder), cells, rounds=1 if options.quick else 3):
                found[name].append((cells, seconds, peak_mib))
    rows = [row for name, sizes in found.items() for row in _rows(name, sizes)]
    note = (
        "Stub cells do all that a cell does but train: a forked process, spec, claim, events, log, record and sidecar "
        "flushed to disk; the fork server imports no torch. Peak memory of the scheduler's process, or of the verb's. "
        f"Ratio: time a cell, to that of the smallest suite; 1 is linear growth. {os.cpu_count()} slots."
    )
    return [Table("Growth with the number of cells", f"a cell of {counts[0]:,}", rows, note)]


def _one_size(folder: Path, cells: int, *, rounds: int) -> list[tuple[str, float, float]]:
    """(what, seconds, peak MiB)."""
    suite, results = write_suite(folder / "suite.yaml", cells), folder / "results"
    stubs = [sys.executable, "-m", "benchmarks.stubs", str(suite), str(results), str(os.cpu_count() or 1)]
    done = subprocess.run(stubs, capture_output=True, text=True, cwd=ROOT, env=environment(), check=True)
    said = json.loads(done.stdout)
    if said.get("done") != cells:
        raise RuntimeError(f"{cells} stub cells ended so: {said}")
    found = [(SCHEDULER, said["seconds"], said["peak_mib"])]
    env = environment() | {"LOSSBENCH_CACHE": str(folder / "cache")}
    for verb in VERBS:
        what = [str(suite)] if verb != "leaderboard" else []
        command = [sys.executable, "-m", "lossbench", verb, *what, "--results", str(results)]
        times, peak = zip(*(_process(command, env) for _ in range(rounds)), strict=True)
        found.append((verb, min(times), max(peak)))
    return found


def _process(command: Sequence[str], env: dict[str, str]) -> tuple[float, float]:
    """Wall seconds and peak MiB of a process. Raises RuntimeError when it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def _rows(name: str, sizes: Sequence[tuple[int, float, float]]) -> list[Row]:
    first = sizes[0][1] / sizes[0][0]
    rows = []
    for cells, seconds, peak_mib in sizes:
        ms, ratio = seconds * 1000, seconds / cells / first
        extra = {"cells": float(cells), "ms a cell": ms / cells, "peak MiB": peak_mib}
        rows.append(Row(f"{name}, {cells:,}", Spread(ms, ms, ms), Spread(ratio, ratio, ratio), extra=extra))
    return rows


def draw(table: Table, path: Path) -> None:
    """Time and peak memory over the number of cells, both axes logarithmic; a grey line grows linearly."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (times, memory) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    names = list(dict.fromkeys(row.name.rpartition(", ")[0] for row in table.rows))
    for name in names:
        rows = [row for row in table.rows if row.name.rpartition(", ")[0] == name]
        cells = [float(row.extra["cells"]) for row in rows]
        seconds = [row.ms.median / 1000 for row in rows if row.ms is not None]
        times.plot(cells, [seconds[0] * count / cells[0] for count in cells], color="0.8", linewidth=3, zorder=0)
        times.plot(cells, seconds, marker="o", label=name)
        memory.plot(cells, [float(row.extra["peak MiB"]) for row in rows], marker="o", label=name)
    for axes, title in ((times, "wall time, s (grey: linear growth)"), (memory, "peak memory, MiB")):
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
