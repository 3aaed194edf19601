"""Evaluation: native resolution, one scale, argmax; confusion counts on the device, nothing else kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.backbones.base import Backbone
from lossbench.data.batches import eval_groups, native, normalise
from lossbench.data.cache import CachedSplit
from lossbench.training.confusion import confusion_matrices, image_counts
from lossbench.training.finecounts import FineCounts
from lossbench.training.ranks import ALONE, Ranks


@dataclass
class Evaluation:
    """What scoring a split gives.

    Attributes:
        confusion: (C, C) int64, rows = truth, columns = prediction, summed over the split's labelled pixels.
        per_image: (n_images, C, 3) int32 true positives, false positives, false negatives of every image.
        extra: what `finescores` needs besides, where it was asked for.
    """

    confusion: NDArray[np.int64]
    per_image: NDArray[np.int32]
    extra: dict[str, Any] = field(default_factory=dict)


def predict(logits: Tensor) -> Tensor:
    """(N, H, W) int64 class of the largest logit (N, C, H, W), the lowest of equals.

    argmax over planes that lie apart takes a CPU 15 times as long as max, which finds the values too; where the classes
    of a pixel lie side by side it is the quicker one.
    """
    if logits.device.type == "cpu" and logits.is_contiguous():
        return logits.max(dim=1).indices
    return logits.argmax(dim=1)


@torch.no_grad()
def evaluate(
    model: Backbone,
    split: CachedSplit,
    num_classes: int,
    device: torch.device,
    *,
    channels_last: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    on_prediction: Callable[[int, NDArray[np.uint8]], None] | None = None,
    ranks: Ranks = ALONE,
    fine: bool = False,
) -> Evaluation | None:
    """Score `model` (dropout off, BatchNorm's running statistics) on every image of `split` at native size.

    In float32, whatever the training's precision: half-precision logits tie after upsampling, and argmax gives a tie
    to the lower class id, which is rarely the rare class.

    Args:
        on_batch: told (images done, images in all).
        on_prediction: given (index, (H, W) uint8 predicted ids) of every image, e.g. to write them to disk.
        ranks: share the batches, not the images of a batch, so that each is scored exactly as by one process. A rank's
            `on_prediction` is given the images of its own batches; every rank gets all counts.
        fine: count boundaries and confidences, too.

    Returns:
        The counts, or None when `should_stop` asked to end early. The model's mode is restored.
    """
    was_training = model.training
    model.eval()
    total = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    per_image = torch.zeros(len(split), num_classes, 3, dtype=torch.int32, device=device)
    extra = FineCounts(num_classes, device) if fine else None
    done = 0
    groups = list(eval_groups(split))
    try:
        for first in range(0, len(groups), ranks.world):
            if ranks.agreed(should_stop()):
                return None
            if first + ranks.rank >= len(groups):  # fewer batches than ranks are left
                break
            indices, images, targets = native(split, groups[first + ranks.rank])
            inputs = normalise(images.to(device, non_blocking=True))
            if channels_last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            logits, truth = model(inputs), targets.to(device, non_blocking=True)
            prediction = predict(logits)
            matrices = confusion_matrices(truth, prediction, num_classes)
            if extra is not None:
                extra.add(logits, prediction, truth)
            total += matrices.sum(dim=0)
            per_image[indices[0] : indices[-1] + 1] = image_counts(matrices).to(torch.int32)
            if on_prediction is not None:
                for index, labels in zip(indices, prediction.to(torch.uint8).cpu().numpy(), strict=True):
                    on_prediction(index, labels)
            done += len(indices)
            on_batch(min(done * ranks.world, len(split)), len(split))
    finally:
        model.train(was_training)
    counts = ranks.add_up(total).cpu().numpy(), ranks.add_up(per_image).cpu().numpy()
    return Evaluation(*counts, extra.gathered(ranks) if extra is not None else {})
