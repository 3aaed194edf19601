"""The report as a user waits for it, and what its pages weigh."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from benchmarks.leaderboard import SETTLE_S, generate
from benchmarks.measure import Options, Row, Table, processes


def run(options: Options) -> list[Table]:
    return [_built(records, options) for records in ((100,) if options.quick else (2_000, 100_000))]


def _built(records: int, options: Options) -> Table:
    with tempfile.TemporaryDirectory(prefix="lossbench_bench_") as folder:
        root, out = Path(folder, "results"), Path(folder, "site")
        generate(root, records)
        time.sleep(SETTLE_S)
        command = ["env", f"LOSSBENCH_CACHE={folder}/cache", sys.executable, "-m", "lossbench", "report"]
        command += ["--results", str(root), "--out", str(out)]
        names = {"leaderboards and losses": [*command, "--runs", "0"]}
        if records <= 5_000:
            names["with a page for every run"] = command
        found = processes(names, rounds=min(options.rounds, 3))
        rows = [Row(name, found[name]) for name in names]
        weights = {kind: _largest(out, f"{kind}/*.html") for kind in ("blocks", "losses", "runs")}
        weights["index"] = _largest(out, "index.html")
        sizes = ", ".join(f"{kind} {size / 1024:.0f} kB" for kind, size in weights.items() if size)
        plotly = (out / "assets" / "plotly.min.js").stat().st_size
        whole = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        note = f"{records:,} records of 19 classes in 12 blocks; largest page of each kind: {sizes}; Plotly, loaded "
        note += f"where there is a figure, {plotly / 2**20:.1f} MiB; the folder {whole / 2**20:.0f} MiB"
    return Table(f"Report of {records:,} records", "", rows, note)


def _largest(out: Path, pattern: str) -> int:
    return max((file.stat().st_size for file in out.glob(pattern)), default=0)
