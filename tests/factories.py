"""Records made without training: seeded random confusion matrices around a wanted quality."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench import PROTOCOL, metrics
from lossbench.cells import Cell, Component
from lossbench.protocol import Protocol
from lossbench.records import Record
from lossbench.store import Store

CLASSES = ("road", "building", "sky", "tree", "car", "person", "pole", "train")
#: Truth pixels of a validation image by class, long-tailed.
SHARES = (40_000, 25_000, 15_000, 10_000, 5_000, 1_200, 600, 80)


def make_cell(
    *,
    dataset: str = "streets",
    backbone: str = "fcn_timm",
    loss: str = "ce",
    seed: int = 0,
    params: Mapping[str, Any] | None = None,
    dataset_params: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> Cell:
    """A cell whose given parameters are all those named here."""
    settings = {"iterations": 400, "batch_size": 8, "crop": [128, 256], **(protocol or {})}
    loss_params, data_params = dict(params or {}), dict(dataset_params or {})
    return Cell(
        dataset=Component(dataset, data_params, tuple(data_params)),
        backbone=Component(backbone, {"encoder": "resnet18"}),
        loss=Component(loss, loss_params, tuple(loss_params)),
        seed=seed,
        protocol=Protocol.model_validate(settings),
    )


def sample_confusions(
    quality: float, seed: int, images: int = 4, shares: tuple[int, ...] = SHARES
) -> NDArray[np.int64]:
    """Per-image confusion matrices (images, C, C) with fixed truth counts; rare classes are harder."""
    rng = np.random.default_rng([seed, int(quality * 1e4)])
    pixels = np.asarray(shares)
    hit = np.clip(quality * (0.55 + 0.45 * (pixels / pixels.max()) ** 0.15), 0.0, 1.0)
    matrices = np.zeros((images, len(pixels), len(pixels)), dtype=np.int64)
    for image in range(images):
        for true, number in enumerate(pixels):
            noisy = float(np.clip(hit[true] + rng.normal(0, 0.01), 0, 1))
            odds = pixels / (pixels.sum() - number) * (1 - noisy)
            odds[true] = noisy
            matrices[image, true] = rng.multinomial(number, odds / odds.sum())
    return matrices


def make_record(
    *,
    quality: float = 0.8,
    status: str = "ok",
    ms_per_step: float = 100.0,
    label: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    class_names: tuple[str, ...] = CLASSES,
    shares: tuple[int, ...] = SHARES,
    notes: tuple[str, ...] = (),
    **cell: Any,
) -> tuple[Cell, Record, NDArray[np.int32]]:
    """(cell, record, per-image counts); keywords beyond those named go to `make_cell`."""
    made = make_cell(**cell)
    confusions = sample_confusions(quality, made.seed, shares=shares)
    record = Record(
        cell=made.identity,
        labels={
            "dataset": made.dataset.label,
            "backbone": made.backbone.label,
            "loss": label or made.loss.label,
        },
        status=status,
        class_names=list(class_names),
        confusion=confusions.sum(axis=0),
        train_pixels=[10 * share for share in shares],
        curve={"step": [1, 200, 400], "loss": [2.1, 0.9, 0.6], "lr": [0.01, 0.005, 1e-4]},
        costs={
            "ms_per_step": ms_per_step,
            "ms": {"data": 10.0, "forward": 40.0, "loss": 5.0, "backward": 45.0},
            "peak_memory_mb": 900.0,
            "extra_forwards": 0,
            "train_s": 0.4 * ms_per_step,
            "eval_s": 4.2,
        },
        provenance={
            "lossbench": "0.1.0",
            "protocol": PROTOCOL,
            "code": {"dataset": "d" * 12, "backbone": "b" * 12, "loss": "a" * 12},
            "packages": {"python": "3.11.9", "torch": "2.9.0"},
            "hardware": {"cpu": "Example CPU", "cores": 2, "threads": 1, "device": "cpu", "gpu": None},
            "data": {"train": "0" * 12, "val": "1" * 12},
            "suite": "quickstart",
            "command": "lossbench run quickstart",
            "started": "2026-01-02T03:04:05+00:00",
            "finished": "2026-01-02T03:05:05+00:00",
            **(provenance or {}),
        },
        notes=list(notes),
    )
    return made, record, metrics.counts_per_image(confusions)


def put(store: Store, **options: Any) -> Path:
    """Make a record and write it; returns its path."""
    cell, record, per_image = make_record(**options)
    return store.write(cell, record, per_image, [f"image_{i}" for i in range(len(per_image))])


def quickstart(store: Store, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """A board as the quickstart leaves it: six losses, one dataset, one backbone."""
    for name, content in _quickstart_files(seeds):
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@lru_cache
def _quickstart_files(seeds: tuple[int, ...]) -> list[tuple[Path, bytes]]:
    """Made once: many tests start from this board, and every write of the store waits for the disk."""
    qualities = {"ce": 0.80, "balanced_ce": 0.805, "focal": 0.78, "lovasz_softmax": 0.83, "df": 0.60, "cdfl": 0.801}
    cost = {"ce": 100.0, "balanced_ce": 101.0, "focal": 104.0, "lovasz_softmax": 131.0, "df": 142.0, "cdfl": 143.0}
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for loss, quality in qualities.items():
            params = {"omega": 0.01} if loss == "cdfl" else {}
            for seed in seeds:
                put(
                    store,
                    loss=loss,
                    params=params,
                    seed=seed,
                    quality=quality + 0.004 * seed,
                    ms_per_step=cost[loss] + seed,
                )
        return [(path.relative_to(folder), path.read_bytes()) for path in Path(folder).rglob("*") if path.is_file()]
