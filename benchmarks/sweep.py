"""What a suite costs beside training and scoring: per cell, and over the whole quickstart."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import ROOT, Options, Row, Spread, Table, environment

OVERHEAD_MS, WHOLE = 150.0, 1.15
TINY: dict[str, Any] = {
    "datasets": [{"name": "streets", "height": 48, "width": 96, "train_images": 16, "val_images": 8}],
    "backbones": [{"name": "fcn_timm", "weights": "none"}],
    "losses": ["ce", "focal", "cdfl"],
    "seeds": 4,
    "protocol": {"iterations": 10, "batch_size": 4, "crop": [32, 64], "optimizer": "adamw", "min_lr": 0.0},
}


@dataclass
class Cell:
    """A finished cell: seconds of its training and scoring by its own record, and when its end was seen."""

    spec: Path
    train_s: float
    steps_s: float
    eval_s: float
    ended: float


def run(options: Options) -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        return [cells(Path(folder), options), whole(Path(folder), options)]


def cells(folder: Path, options: Options) -> Table:
    """Cells one after the other in one slot: what lies between their training and scoring."""
    suite = folder / "tiny.yaml"
    suite.write_text(yaml.safe_dump(TINY))
    _, done = run_suite(suite, folder, "tiny", "-j", "1", "--threads", "1")
    pairs = list(pairwise(done))
    between = [(after.ended - before.ended - after.train_s - after.eval_s) * 1000 for before, after in pairs]
    strict = [(after.ended - before.ended - after.steps_s - after.eval_s) * 1000 for before, after in pairs]
    naive = [alone(cell, folder / f"alone{index}") for index, cell in enumerate(done[: 1 if options.quick else 3])]
    reference = Spread.of(naive)
    title = f"Overhead of a cell after the first, {len(done)} cells in one slot (ratio: to the first row)"
    note = (
        f"Wall time beside train_s and eval_s of its record; target: {OVERHEAD_MS:g} ms. `slow steps` counts, too, "
        "what its steps took beyond their median: page faults and set-up of the first, logging."
    )
    target = OVERHEAD_MS / reference.median
    rows = [
        Row("a process per cell", reference, Spread.of(value / reference.median for value in naive)),
        Row("lossbench run", Spread.of(between), Spread.of(v / reference.median for v in between), target=target),
        Row("lossbench run, slow steps", Spread.of(strict), Spread.of(v / reference.median for v in strict)),
    ]
    return Table(title, rows[0].name, rows, note)


def alone(cell: Cell, folder: Path) -> float:
    """Milliseconds beside training and scoring when the cell runs in a process of its own."""
    spec = json.loads(cell.spec.read_text()) | {"results": str(folder)}
    path = folder / "runs" / spec["cell_id"] / "spec.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(spec))
    started = time.time()
    command = [sys.executable, "-m", "lossbench.execution.worker", str(path)]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)
    (costs,) = (record["costs"] for record in records(folder))
    return (time.time() - started - costs["train_s"] - costs["eval_s"]) * 1000


def whole(folder: Path, options: Options) -> Table:
    """The quickstart from the command to the leaderboard, with an empty cache and with a filled one."""
    data = yaml.safe_load((ROOT / "suites" / "quickstart.yaml").read_text())
    if options.quick:
        data["protocol"] |= {"iterations": 4, "warmup": 1}
        data["seeds"] = [0]
    suite = folder / "quickstart.yaml"
    suite.write_text(yaml.safe_dump(data))
    slots = min(2, os.cpu_count() or 1)
    rows = []
    for index, name in enumerate(("quickstart, data generated first", "quickstart, data cached")):
        wall, done = run_suite(suite, folder, f"quickstart{index}", "-j", str(slots), "--threads", "1")
        pure = sum(cell.steps_s + cell.eval_s for cell in done) / slots
        extra: dict[str, float | str] = {"steps and scoring, s": pure, "wall, s": wall}
        rows.append(Row(name, Spread.of([wall * 1000]), Spread.of([wall / pure]), target=WHOLE, extra=extra))
        if options.quick:
            break
    title = (
        f"Whole quickstart ({data['protocol']['iterations']} iterations, {len(done)} cells, {slots} slots of a thread)"
    )
    note = (
        "ratio: wall time of `lossbench run` to (sum over cells of median step x iterations + eval_s) / slots; one run"
    )
    return Table(title, "pure step and evaluation time", rows, note)


def run_suite(suite: Path, folder: Path, name: str, *options: str) -> tuple[float, list[Cell]]:
    """(wall seconds, cells in the order of their ends) of a `lossbench run` with results of its own.

    Raises:
        RuntimeError: it failed; its output is the message.
    """
    results = folder / name
    command = [sys.executable, "-m", "lossbench", "run", str(suite), "--results", str(results), *options]
    extra = {"LOSSBENCH_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    started = time.time()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment() | extra, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = [(time.time(), line) for line in process.stderr]
    if process.wait():
        raise RuntimeError("".join(line for _, line in lines))
    wall = time.time() - started
    ends = {found[1]: when for when, line in lines if (found := re.search(r"\] done +(.+?)  mIoU", line))}
    found = []
    for record in records(results):
        labels, costs = record["labels"], record["costs"]
        label = f"{labels['dataset']}/{labels['backbone']}/{labels['loss']}/seed{record['cell']['seed']}"
        steps = record["cell"]["protocol"]["iterations"] * costs["ms_per_step"] / 1000
        spec = results / "runs" / record["id"] / "spec.json"
        found.append(Cell(spec, costs["train_s"], steps, costs["eval_s"], ends[label]))
    return wall, sorted(found, key=lambda cell: cell.ended)


def records(results: Path) -> list[dict[str, Any]]:
    """The records of a results folder as plain JSON."""
    return [json.loads(path.read_text()) for path in (results / "records").rglob("*.json")]
