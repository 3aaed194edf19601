"""What statistics cost: the bootstrap over seeds and images, and what evaluation counts beside the confusion matrix."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.measure import Options, Row, Spread, Table, interleave
from lossbench import metrics
from lossbench.bootstrap import interval, resampled_miou
from lossbench.training.evaluate import predict
from lossbench.training.finecounts import FineCounts

SEEDS, IMAGES, CLASSES = 6, 500, 19


def run(options: Options) -> list[Table]:
    torch.set_num_threads(options.threads)
    sizes = [(11, 360, 480)] if options.quick else [(11, 360, 480), (19, 1024, 2048)]
    return [_bootstrap(options), *(_evaluation(options, *size) for size in sizes)]


def _evaluation(options: Options, classes: int, height: int, width: int) -> Table:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, classes, height, width, generator=generator)
    target = torch.randint(classes, (1, -(-height // 16), -(-width // 16)), generator=generator)
    target = target.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height, :width].to(torch.uint8).contiguous()
    counts, prediction = FineCounts(classes, torch.device("cpu")), predict(logits)
    work = {
        "argmax": lambda: predict(logits),
        "cross-entropy, forward": lambda: torch.nn.functional.cross_entropy(logits, target.long()),
        "boundaries and confidences": lambda: counts.add(logits, prediction, target),
    }
    found = interleave(work, baseline="cross-entropy, forward", rounds=options.rounds)
    rows = [Row(name, *found[name]) for name in work]
    note = "of one image, beside the network's forward pass; once a run, when its split is scored"
    return Table(f"Evaluation, {classes} classes at {width} x {height}", "cross-entropy, forward", rows, note)


def _bootstrap(options: Options) -> Table:
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
    ratio = found["loop"][1]
    assert ratio is not None
    # A loop over as many would take minutes: what compares is a resample of each.
    each = resamples / looped
    rows = [
        Row(f"{resamples:,} resamples, a matrix product", found["fast"][0], target_ms=2000),
        Row(
            f"{looped:,} resamples, a loop over them",
            found["loop"][0],
            Spread(each * ratio.median, each * ratio.low, each * ratio.high),
        ),
    ]
    for row, number in zip(rows, (resamples, looped), strict=True):
        assert row.ms is not None
        row.extra["ms a resample"] = f"{row.ms.median / number:.3f}"
    note = f"{IMAGES} images, {CLASSES} classes, {SEEDS} seeds; pooled mIoU of every seed in every resample"
    return Table("Bootstrap over seeds and images", "matrix product, a resample", rows, note)
