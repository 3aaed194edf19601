"""Confusion counts of label maps, on the device they are on."""

from __future__ import annotations

import torch
from torch import Tensor

#: Labels 0..255 each get a row; those that are no class are cut off at the end.
ROWS = 256


def confusion_matrices(target: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """(N, C, C) int64 matrices of N label maps, rows = truth.

    Args:
        target: (N, H, W) integers, 0..C-1 or an ignored label in C..255.
        prediction: (N, H, W) integers in 0..C-1.

    No mask and no host sync. The index is as narrow as C allows, for most of the time goes to memory traffic.
    """
    dtype = torch.int16 if ROWS * num_classes <= torch.iinfo(torch.int16).max else torch.int32
    # Both are brought to one dtype first: torch's in-place arithmetic of mixed widths is twice as slow.
    index = target.flatten(1).to(dtype, copy=True).mul_(num_classes).add_(prediction.flatten(1).to(dtype))
    count = _count_atomically if index.is_cuda else _count_serially
    matrices = count(index, ROWS * num_classes)
    return matrices[:, : num_classes**2].reshape(-1, num_classes, num_classes)


def _count_serially(index: Tensor, bins: int) -> Tensor:
    """Histogram of every row of (N, P) indices: (N, bins) int64."""
    return torch.stack([torch.bincount(row, minlength=bins) for row in index])


def _count_atomically(index: Tensor, bins: int) -> Tensor:
    """The same for CUDA, where bincount would wait for the device to learn the largest index. Sums of integers do not
    depend on the order they are added in."""
    counts = torch.zeros(len(index), bins, dtype=torch.int64, device=index.device)
    return counts.scatter_add_(1, index.long(), counts.new_ones(()).expand(index.shape))


def image_counts(matrices: Tensor) -> Tensor:
    """(N, C, 3) true positives, false positives, false negatives from (N, C, C) matrices."""
    true_positive = matrices.diagonal(dim1=1, dim2=2)
    false_positive = matrices.sum(dim=1) - true_positive
    false_negative = matrices.sum(dim=2) - true_positive
    return torch.stack((true_positive, false_positive, false_negative), dim=2)
