"""`lossbench verify` of 100,000 records as a user waits for it: all, all again, and what a branch adds."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.leaderboard import SETTLE_S, confusions, make_record
from benchmarks.measure import Options, Row, Table, processes
from lossbench.cells import Cell, Component
from lossbench.metrics import counts_of
from lossbench.protocol import Protocol
from lossbench.provenance import code_hash
from lossbench.registry import Registry, all_registries
from lossbench.sidecar import sidecar_bytes
from lossbench.store import Store

DATASETS, BACKBONES = ("camvid", "cityscapes", "voc2010"), ("fcn_timm", "fcn_resnet50", "deeplabv3plus", "unet")
LOSSES = ("ce", "balanced_ce", "focal", "lovasz_softmax", "df", "cdfl")
#: Images of a sidecar, and pieces that a class of predictions falls into.
IMAGES, PIECES = 100, 3
#: Records of a change.
ADDED = 50


def run(options: Options) -> list[Table]:
    records = 400 if options.quick else 100_000
    rounds = min(options.rounds, 5)
    with tempfile.TemporaryDirectory(prefix="lossbench_bench_") as folder:
        root, cache = Path(folder, "results"), Path(folder, "cache")
        make(root, records)
        files = sorted((root / "records").rglob("*.json"))
        _git(root, "init", "--quiet", "--initial-branch=main")
        added = files[:: len(files) // ADDED][:ADDED]
        names = {str(path.relative_to(root)) for file in added for path in (file, file.with_suffix(".npz"))}
        Path(root, ".git", "info", "exclude").write_text("\n".join(sorted(names)))
        _git(root, "add", "--all")
        _git(root, "commit", "--quiet", "--message=records")
        Path(root, ".git", "info", "exclude").write_text("")
        time.sleep(SETTLE_S)
        call = ["env", f"LOSSBENCH_CACHE={cache}", sys.executable, "-m", "lossbench"]
        verify = [*call, "verify", str(root)]
        change = [*verify, "--changed-since", "HEAD"]
        full = processes({"all, for the first time": [*verify, "--no-index"]}, rounds=1)
        again = processes({"all, again": verify}, rounds=rounds)
        cold = processes({"cold": ["sh", "-c", f'rm -rf {cache}; exec "$@"', "sh", *change]}, rounds=1)
        warm = processes({"warm": change}, rounds=rounds)
        rows = [
            Row("all, read", full["all, for the first time"], target_ms=60_000),
            Row("all, unchanged since they were in order", again["all, again"], target_ms=5000),
            Row(f"{ADDED} added, no index", cold["cold"], target_ms=15_000),
            Row(f"{ADDED} added, index of the leaderboard", warm["warm"], target_ms=5000),
        ]
        sizes = [file.with_suffix(suffix).stat().st_size / 1000 for file in files[:1] for suffix in (".json", ".npz")]
    note = f"{records:,} records of {sizes[0]:.1f} kB and counts of {IMAGES} images ({sizes[1]:.1f} kB); "
    return [Table("Verify", "", rows, note + "wall time of a process")]


def make(root: Path, records: int) -> None:
    """Records of plugins that there are, by their code of now, each with its per-image counts: in all of them, nothing
    is wrong."""
    places = list(product(DATASETS, BACKBONES, LOSSES))
    seeds = [records // len(places) + (index < records % len(places)) for index in range(len(places))]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_row, root), places, seeds))


def _write_row(root: Path, place: tuple[str, str, str], seeds: int) -> None:
    plugins = [registry.get(name) for registry, name in zip(_registries(), place, strict=True)]
    parts = [Component(plugin.name, plugin.resolve({})) for plugin in plugins]
    code = {plugin.kind: code_hash(plugin, part.params) for plugin, part in zip(plugins, parts, strict=True)}
    store, names = Store(root), [f"image_{number:04d}" for number in range(IMAGES)]
    for seed, confusion in enumerate(confusions(place, seeds)):
        cell = Cell(*parts, seed, Protocol())
        record = make_record(cell, confusion)
        record.provenance["code"] = code
        path = store.record_path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.to_json())
        path.with_suffix(".npz").write_bytes(sidecar_bytes(record, _per_image(confusion, seed), names))


def _registries() -> list[Registry]:
    registries = all_registries()
    return [registries[kind] for kind in ("dataset", "backbone", "loss")]


def _per_image(confusion: np.ndarray, seed: int) -> np.ndarray:
    """Counts (IMAGES, C, 3) that sum to a matrix; the true pixels of each image are the same whatever the matrix.

    The pixels of a true class lie in a row, those predicted alike in some pieces of it; an image has a stretch of it.
    """
    classes, rng = len(confusion), np.random.default_rng(seed)
    pieces = np.concatenate(
        [confusion // PIECES] * (PIECES - 1) + [confusion - confusion // PIECES * (PIECES - 1)], axis=1
    )
    predicted = np.tile(np.arange(classes), PIECES)
    order = rng.permutation(len(predicted))
    ends = np.cumsum(pieces[:, order], axis=1)
    starts = ends - pieces[:, order]
    cuts = np.arange(IMAGES + 1)[:, None] * confusion.sum(axis=1) // IMAGES
    low = np.maximum(starts, cuts[:-1, :, None])
    overlap = np.clip(np.minimum(ends, cuts[1:, :, None]) - low, 0, None)
    matrices = np.zeros((IMAGES, classes, classes), dtype=np.int64)
    for piece, column in enumerate(predicted[order].tolist()):
        matrices[:, :, column] += overlap[:, :, piece]
    return counts_of(matrices).astype(np.int32)


def _git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "gc.auto=0"]
    subprocess.run(["git", *identity, "-C", str(root), *arguments], check=True, capture_output=True)
