"""The bootstrap over seeds and images, and a plain loop of it, in one process."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Options, Row, Table, interleave
from lossbench import metrics
from lossbench.bootstrap import interval, resampled_miou

SEEDS, IMAGES, CLASSES = 6, 500, 19


def run(options: Options) -> list[Table]:
    resamples, looped = (500, 5) if options.quick else (10_000, 100)
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 100_000, (SEEDS, IMAGES, CLASSES, 3))

    def fast() -> None:
        interval(resampled_miou(counts, resamples), IMAGES)

    def loop() -> None:
        for _ in range(looped):
            drawn = generator.integers(0, IMAGES, IMAGES)
            np.mean(metrics.mean(metrics.class_scores(counts[:, drawn].sum(axis=1))["iou"]))

    found = interleave({"fast": fast, "loop": loop}, baseline="fast", rounds=min(options.rounds, 5))
    rows = [
        Row(f"{resamples:,} resamples", found["fast"][0], target_ms=2000),
        Row(f"{looped:,} resamples, a loop over them", found["loop"][0]),
    ]
    note = f"{IMAGES} images, {CLASSES} classes, {SEEDS} seeds; pooled mIoU of every seed in every resample"
    return [Table("Bootstrap over seeds and images", "", rows, note)]
