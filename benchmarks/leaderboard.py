"""The leaderboard of 100,000 records as a user waits for it: wall time of processes, against reading the files."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.measure import Options, Row, Table, optional, processes
from lossbench import PROTOCOL
from lossbench.cells import Cell, Component
from lossbench.protocol import Protocol
from lossbench.records import Record
from lossbench.store import Store

CLASSES = [f"class_{index:02d}" for index in range(19)]
DATASETS, BACKBONES = ("streets", "city", "context"), ("fcn_r18", "fcn_r50", "unet", "deeplab")
LOSSES = ("ce", "balanced_ce", "focal", "lovasz_softmax", "df", "cdfl")
#: Truth pixels by class, long-tailed; the same for every run, as on one validation split.
TRUTH = [int(2e7 * 0.6**index) + 3000 for index in range(len(CLASSES))]
#: An index does not trust what was written within a tick of the clock before it was read.
SETTLE_S = 4
NAIVE = """
import json, sys
from pathlib import Path
import numpy as np, pandas as pd
rows = []
for file in Path(sys.argv[1]).rglob("*.json"):
    record = json.loads(file.read_bytes())
    matrix = np.asarray(record["confusion"])
    hits = matrix.diagonal()
    iou = hits / np.maximum(matrix.sum(0) + matrix.sum(1) - hits, 1)
    rows.append({**record["labels"], "miou": iou.mean()})
print(pd.DataFrame(rows).groupby(["dataset", "backbone", "loss"])["miou"].agg(["mean", "std", "count"]))
"""


def run(options: Options) -> list[Table]:
    records = 400 if options.quick else 100_000
    rounds = min(options.rounds, 9)
    with tempfile.TemporaryDirectory(prefix="lossbench_bench_") as folder:
        root, cache = Path(folder, "results"), Path(folder, "cache")
        generate(root, records)
        time.sleep(SETTLE_S)
        board = ["env", f"LOSSBENCH_CACHE={cache}", sys.executable, "-m", "lossbench", "leaderboard"]
        board += ["--results", str(root)]
        rebuild = processes({"rebuild": ["sh", "-c", f'rm -rf {cache}; exec "$@"', "sh", *board]}, rounds=3)["rebuild"]
        warm = {"index, trusted": [*board, "--trust-index"], "index, every file checked": board}
        found = processes(warm, rounds=rounds)
        rows = [
            Row("index, trusted", found["index, trusted"], target_ms=700),
            Row("index, every file checked", found["index, every file checked"], target_ms=1200),
            Row("index rebuilt", rebuild, target_ms=8000),
        ]
        slow = {"no index": [*board, "--no-index"]}
        if optional("pandas") is not None:
            slow["json.loads + pandas"] = [sys.executable, "-c", NAIVE, str(root)]
        for name, spread in processes(slow, rounds=rounds if options.quick else 1).items():
            rows.append(Row(name, spread, peer="pandas" in name))
        note = f"{records:,} records of {file_size(root) / 1000:.1f} kB in 72 rows; wall time of a process"
    return [Table("Leaderboard", "", rows, note)]


def generate(root: Path, records: int) -> None:
    """Records as `Store.write` leaves them, without their sidecars and without waiting for the disk."""
    places = list(product(DATASETS, BACKBONES, LOSSES))
    seeds = [records // len(places) + (index < records % len(places)) for index in range(len(places))]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_row, root), places, seeds))


def _write_row(root: Path, place: tuple[str, str, str], seeds: int) -> None:
    store, protocol = Store(root), Protocol(crop=[512, 512], iterations=40_000)
    dataset, backbone, loss = place
    for seed, confusion in enumerate(confusions(place, seeds)):
        cell = Cell(
            Component(dataset, {"size": [512, 1024], "void": 255}),
            Component(backbone, {"encoder": "resnet18", "dropout": 0.1}),
            Component(loss, {"gamma": 2.0, "alpha": 0.75} if loss in ("focal", "df", "cdfl") else {}),
            seed,
            protocol,
        )
        path = store.record_path(cell)
        if not seed:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make_record(cell, confusion).to_json())


def confusions(place: tuple[str, str, str], seeds: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng([ord(letter) for letter in "".join(place)])
    quality = rng.uniform(0.4, 0.9)
    shares = np.array(TRUTH) / sum(TRUTH)
    rows = []
    for true, pixels in enumerate(TRUTH):
        odds = shares * (1 - quality)
        odds[true] += quality
        rows.append(rng.multinomial(pixels, odds / odds.sum(), size=seeds))
    yield from np.stack(rows, axis=1)


def make_record(cell: Cell, confusion: np.ndarray) -> Record:
    rng = np.random.default_rng(cell.seed)
    return Record(
        cell=cell.identity,
        labels={"dataset": cell.dataset.label, "backbone": cell.backbone.label, "loss": cell.loss.label},
        status="ok",
        class_names=CLASSES,
        confusion=confusion,
        train_pixels=[6 * pixels for pixels in TRUTH],
        curve={
            "step": list(range(2000, 40_001, 2000)),
            "loss": rng.random(20).round(5).tolist(),
            "lr": rng.random(20).round(7).tolist(),
        },
        costs={
            "ms_per_step": float(rng.normal(240, 9)),
            "ms": {"data": 3.1, "forward": 80.2, "loss": 11.0, "backward": 141.9},
            "peak_memory_mb": 8123.0,
            "extra_forwards": 0,
            "train_s": float(rng.normal(9600, 90)),
            "eval_s": 44.0,
        },
        provenance={
            "lossbench": "0.1.0",
            "protocol": PROTOCOL,
            "code": {"dataset": "d" * 12, "backbone": "b" * 12, "loss": "a" * 12},
            "packages": {"python": "3.11.9", "torch": "2.9.0", "numpy": "2.1.0"},
            "hardware": {"cpu": "Example CPU", "cores": 16, "threads": 8, "device": "cuda:0", "gpu": {"name": "GPU"}},
            "data": {"train": "0" * 12, "val": "1" * 12},
            "suite": "paper",
            "command": "lossbench run paper",
            "started": "2026-01-02T03:04:05+00:00",
            "finished": "2026-01-02T05:44:05+00:00",
        },
    )


def file_size(root: Path) -> int:
    return next((root / "records").rglob("*.json")).stat().st_size
