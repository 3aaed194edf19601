"""Confusion matrix of one Cityscapes-sized pair of label maps, against numpy's fast_hist and the peers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.measure import Options, Row, Table, interleave, optional
from lossbench.training.confusion import confusion_matrices

CLASSES = 19
TARGET = 0.35


def run(options: Options) -> list[Table]:
    height, width = (256, 512) if options.quick else (1024, 2048)
    target, prediction = pair(height, width)
    device = torch.device(options.device)
    ours_target = torch.from_numpy(target)[None].to(device)
    ours_prediction = torch.from_numpy(prediction)[None].to(device)
    reference = fast_hist(target, prediction)

    def ours() -> torch.Tensor:
        return confusion_matrices(ours_target, ours_prediction, CLASSES)

    candidates: dict[str, Callable[[], object]] = {"numpy fast_hist": lambda: fast_hist(target, prediction)}
    candidates["lossbench (torch)"] = ours
    if not np.array_equal(ours()[0].cpu().numpy(), reference):
        raise RuntimeError("the confusion matrix disagrees with fast_hist")
    candidates |= peers(target, prediction)
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    spreads = interleave(candidates, baseline="numpy fast_hist", rounds=options.rounds, sync=sync)
    rows = [
        Row(name, ms, ratio, peer="lossbench" not in name, target=TARGET if "lossbench" in name else None)
        for name, (ms, ratio) in spreads.items()
    ]
    return [Table(f"Confusion matrix, {CLASSES} classes, {height}x{width} uint8 pair", "fast_hist", rows)]


def pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobby labels with 5 % void, and a prediction that is right at about 90 %."""
    rng = np.random.default_rng(0)
    blocks = rng.zipf(1.6, (height // 16, width // 16)).clip(1, CLASSES) - 1
    target = np.kron(blocks, np.ones((16, 16))).astype(np.uint8)
    prediction = np.where(rng.random(target.shape) < 0.1, rng.integers(0, CLASSES, target.shape), target)
    target[rng.random(target.shape) < 0.05] = 255
    return target, prediction.astype(np.uint8)


def fast_hist(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The usual numpy recipe: a mask and a bincount."""
    mask = target < CLASSES
    index = CLASSES * target[mask].astype(int) + prediction[mask]
    return np.bincount(index, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def peers(target: np.ndarray, prediction: np.ndarray) -> dict[str, Callable[[], object]]:
    """What others offer for the same matrix."""
    found: dict[str, Callable[[], object]] = {}
    y, p = torch.from_numpy(target).long(), torch.from_numpy(prediction).long()
    if (torchmetrics := optional("torchmetrics.functional.classification")) is not None:
        for name, check in (("torchmetrics", True), ("torchmetrics, validate_args=False", False)):
            found[name] = lambda check=check: torchmetrics.multiclass_confusion_matrix(
                p, y, CLASSES, ignore_index=255, validate_args=check
            )
    if (smp := optional("segmentation_models_pytorch.metrics")) is not None:
        found["smp get_stats"] = lambda: smp.get_stats(
            p[None], y[None].where(y[None] != 255, -1), mode="multiclass", num_classes=CLASSES, ignore_index=-1
        )
    if (cv2 := optional("cv2")) is not None:
        found["cv2.calcHist"] = lambda: cv2.calcHist(
            [target, prediction], [0, 1], None, [CLASSES, CLASSES], [0, CLASSES, 0, CLASSES]
        )
    return found
