"""Region mutual information loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossbench.errors import ParameterError
from lossbench.losses._pixel import check_number, label_counts, prepare
from lossbench.registry import register_loss

#: Added to the diagonal of covariances before they are inverted, as in the authors' code.
_RIDGE = 5e-4


def region_information(truth: Tensor, prob: Tensor, radius: int, pool: int) -> Tensor:
    """Half the log-determinant of the truth's covariance given the prediction, over regions of radius x radius pixels.

    Eq. 14 and 15 of the paper: log det(Sigma_Y - Sigma_YP Sigma_P^-1 Sigma_YP^T), the upper bound of the conditional
    entropy by the best linear prediction, here as log det(1 + M / ridge) so that it is 0 where the truth does not
    vary, and >= 0. Per dimension of a region, summed over classes, mean over images. float64 throughout.

    Args:
        truth, prob: (N, C, H, W) one-hot labels and probabilities, 0 at ignored pixels.
    """
    truth, prob = truth.double(), prob.double()
    if pool > 1:
        truth = functional.avg_pool2d(truth, pool, pool, pool // 2)
        prob = functional.avg_pool2d(prob, pool, pool, pool // 2)
    h, w = truth.shape[2:]
    if h < radius or w < radius:
        return prob.sum() * 0.0
    y, p = _regions(truth, radius), _regions(prob, radius)
    ridge = _RIDGE * torch.eye(radius * radius, dtype=torch.float64, device=prob.device)
    y_cov, p_cov, cross = y @ y.mT, p @ p.mT, y @ p.mT
    explained = cross @ torch.cholesky_solve(cross.mT, torch.linalg.cholesky(p_cov + ridge))
    rest = y_cov - explained
    factor = torch.linalg.cholesky((rest + rest.mT) / 2 + ridge)
    log_det = 2 * (factor.diagonal(dim1=-2, dim2=-1) / _RIDGE**0.5).log().sum(-1)
    total: Tensor = log_det.sum()
    return 0.5 * total / (len(truth) * radius * radius)


def _regions(maps: Tensor, radius: int) -> Tensor:
    """(N, C, radius^2, M): the pixels of every region as vectors, their mean over the regions taken off."""
    h, w = maps.shape[2:]
    rows = [
        maps[:, :, i : h - radius + 1 + i, j : w - radius + 1 + j].flatten(2)
        for i in range(radius)
        for j in range(radius)
    ]
    vectors = torch.stack(rows, 2)
    return vectors - vectors.mean(3, keepdim=True)


@register_loss("rmi")
class RegionMutualInformationLoss(nn.Module):
    """Region mutual information: weight BCE + (1 - weight) RMI, RMI the conditional entropy of regions of the truth.

    Each class is a binary map (sigmoid, not softmax). Every 3x3 region of a map, pooled by 4, is a vector of 9; RMI is
    half the log-determinant of the covariance of the truth's vectors that the prediction's do not explain linearly.
    BCE is summed over the classes and averaged over the labelled pixels.

    Source: Zhao et al. 2019, "Region Mutual Information Loss for Semantic Segmentation", eq. 11 to 16; regions of 3,
    averages over 4x4 pixels and equal parts as the authors trained.

    Sees structure that losses per pixel cannot; it knows nothing of class frequency, but each class has an equal say.
    Traps: float32 covariances are not positive definite: all is float64, with 5e-4 on the diagonal; the authors'
    constant log(5e-4) per class is taken off, so that a class absent from an image adds 0 instead of -3.8. Images that
    hold no region after pooling have only the BCE part. Slow on a CPU.

    Args:
        radius: side of a region, >= 1.
        pool: maps are averaged over pool x pool pixels first, >= 1.
        weight: of the BCE part, in [0, 1].
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Raises:
        ParameterError: a number out of range.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    conformance_exceptions: ClassVar[dict[str, str]] = {
        "shift": "each class is a sigmoid of its own, so that a constant added to all logits counts (Zhao 2019)",
        "pixel_permutation": "regions of neighbouring pixels",
        "compaction": "regions of neighbouring pixels",
    }

    def __init__(self, *, radius: int = 3, pool: int = 4, weight: float = 0.5, ignore_index: int = 255) -> None:
        super().__init__()
        for name, value in {"radius": radius, "pool": pool}.items():
            if value < 1:
                raise ParameterError(f"rmi: {name} must be at least 1, got {value}", parameter=name)
        check_number("rmi", "weight", weight, high=1)
        self.radius, self.pool, self.weight, self.ignore_index = radius, pool, weight, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        pixels = prepare(logits, target, self.ignore_index)
        label_counts(pixels)  # for its check of the labels
        mask = pixels.valid.unsqueeze(1)
        truth = torch.zeros_like(pixels.logits).scatter_(1, pixels.target.unsqueeze(1), 1.0).masked_fill_(~mask, 0.0)
        bce = functional.binary_cross_entropy_with_logits(pixels.logits, truth, reduction="none")
        bce = bce.masked_fill(~mask, 0.0).sum() / pixels.valid.sum().clamp(min=1)
        prob = pixels.logits.sigmoid().masked_fill(~mask, 0.0)
        with torch.autocast(logits.device.type, enabled=False):
            rmi = region_information(truth, prob, self.radius, self.pool)
        return self.weight * bce + (1 - self.weight) * rmi.to(bce.dtype)

    def extra_repr(self) -> str:
        said = f"radius={self.radius}, pool={self.pool}, weight={self.weight}"
        return f"{said}, ignore_index={self.ignore_index}"
