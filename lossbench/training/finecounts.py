"""What evaluation counts beside the confusion matrix, on the device: boundaries and confidences. See `finescores`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossbench.finescores import BINS, CONFIDENCE_UNIT, NLL_UNIT, boundary_width
from lossbench.training.ranks import Ranks

#: Label of what is outside of an image: unlike any class, and like the ignored.
_OUTSIDE = 255
#: Nats of one pixel, at most, and of one whose logits are not finite: a float32 probability ends at
#: e^-103. In units of NLL_UNIT an int64 holds the sum of 1.4e10 such pixels, of 6,700 images of 2048 x 1024.
_LARGEST_NLL = 1e4


class FineCounts:
    """Adds up batches; everything is int64."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self._boundary = torch.zeros(num_classes, 3, dtype=torch.int64, device=device)
        #: Rows: pixels, correct ones, confidence in units; the sum of -log p_y stands apart.
        self._bins = torch.zeros(3, BINS, dtype=torch.int64, device=device)
        self._nll = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """A batch: logits (N, C, H, W), prediction and target (N, H, W) with 0..C-1, ignored labels beyond.

        No host sync.
        """
        valid = target < self.num_classes
        truth = torch.where(valid, target, _OUTSIDE).to(torch.uint8)
        guess = torch.where(valid, prediction, _OUTSIDE).to(torch.uint8)
        self._boundary += boundary_counts(truth, guess, self.num_classes)
        self._add_confidence(logits.float(), prediction, target.long().masked_fill(~valid, 0), valid)

    def _add_confidence(self, logits: Tensor, prediction: Tensor, target: Tensor, valid: Tensor) -> None:
        normaliser = logits.logsumexp(1)
        picked = logits.gather(1, torch.stack((prediction.long(), target), 1))
        confidence = (picked[:, 0] - normaliser).exp().nan_to_num(0.0).clamp_(0, 1)
        loss = (normaliser - picked[:, 1]).nan_to_num(_LARGEST_NLL).clamp_(0, _LARGEST_NLL)
        units = (confidence / CONFIDENCE_UNIT).round().long()
        # (k / BINS, (k + 1) / BINS] is bin k.
        place = (units * BINS - 1).clamp_(min=0).div_(round(1 / CONFIDENCE_UNIT), rounding_mode="floor")
        place = place.clamp_(max=BINS - 1).flatten()
        right = valid & (prediction == target)
        for row, counted in enumerate((valid, right, units * valid)):
            self._bins[row] += _histogram(place, BINS, counted.flatten())
        self._nll += ((loss / NLL_UNIT).round() * valid).long().sum()

    def gathered(self, ranks: Ranks) -> dict[str, Any]:
        """The sums of all ranks as plain numbers, as a record keeps them."""
        bins = ranks.add_up(self._bins).tolist()
        return {
            "boundary": ranks.add_up(self._boundary).tolist(),
            "calibration": {
                "pixels": bins[0],
                "correct": bins[1],
                "confidence": bins[2],
                "nll": int(ranks.add_up(self._nll)),
            },
        }


def boundary_counts(truth: Tensor, guess: Tensor, num_classes: int) -> Tensor:
    """TP, FP, FN (C, 3) int64 of boundary pixels of label maps (N, H, W) uint8 (Cheng et al. 2021, eq. 2).

    A pixel is on the boundary of its class where another label, or the outside of the image, is within `boundary_width`
    rows and columns of it: what is left of the class's mask after so many erosions by 3x3 is not. Ignored pixels (255
    in both maps) are outside, so that both have a boundary there.
    """
    width = boundary_width(*truth.shape[1:])
    # The labels of boundary pixels; all others are one more label, num_classes.
    labels = [
        torch.where(_on_boundary(labels, width) & (labels != _OUTSIDE), labels, num_classes).long()
        for labels in (truth, guess)
    ]
    each = [_histogram(each, num_classes + 1) for each in labels]
    hits = _histogram(torch.where(labels[0] == labels[1], labels[0], num_classes), num_classes + 1)
    counts = torch.stack((hits, each[1] - hits, each[0] - hits), dim=1)
    return counts[:num_classes]


def _histogram(labels: Tensor, bins: int, counted: Tensor | None = None) -> Tensor:
    """As bincount, of ones or of the integers `counted`; for a GPU, where bincount would wait, in another way."""
    flat = labels.flatten()
    if flat.device.type == "cpu":
        if counted is None:
            return torch.bincount(flat, minlength=bins)
        return torch.bincount(flat, counted.double(), bins).long()  # sums of integers below 2^53 are exact
    counted = torch.ones_like(flat) if counted is None else counted.long()
    return torch.zeros(bins, dtype=torch.int64, device=flat.device).scatter_add_(0, flat, counted)


def _on_boundary(labels: Tensor, width: int) -> Tensor:
    """Where the (2 width + 1)^2 pixels around a pixel do not all have its label: their largest and smallest differ."""
    padded = torch.nn.functional.pad(labels, (width, width, width, width), value=_OUTSIDE)
    largest, smallest = (_sliding(_sliding(padded, 2 * width + 1, -1, op), 2 * width + 1, -2, op)
                         for op in (torch.maximum, torch.minimum))  # fmt: skip
    return largest != smallest


def _sliding(values: Tensor, size: int, dim: int, op: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`op` over every window of `size` along `dim`, in log2(size) steps: windows of twice the size from two halves."""
    reached = 1
    while reached < size:
        step = min(reached, size - reached)
        length = values.shape[dim] - step
        values = op(values.narrow(dim, 0, length), values.narrow(dim, step, length))
        reached += step
    return values
