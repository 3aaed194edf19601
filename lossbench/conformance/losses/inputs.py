"""Logits and labels every table of losses is timed on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: (N, C, H, W) of a training batch: two Cityscapes halves, CamVid, Pascal Context.
SHAPES: dict[str, tuple[int, int, int, int]] = {
    "city": (2, 19, 512, 1024),
    "camvid": (4, 11, 360, 480),
    "pctx": (4, 59, 480, 480),
}
VOID = 255
_BLOB = 16
_VOID_SHARE = 0.05


def logits_and_target(
    shape_name: str, device: str | torch.device = "cpu", quick: bool = False
) -> tuple[Tensor, Tensor]:
    """Random logits (N, C, H, W) float32, standard deviation 3, and labels (N, H, W) int64, the same at every call.

    Labels are blobs with Zipf frequencies (exponent 1.2), 5 % of them void (255) in blobs of their own.

    Args:
        shape_name: a key of `SHAPES`.
        device: where the tensors are put; they are drawn on the CPU.
        quick: a quarter of the height and of the width.
    """
    n, classes, height, width = SHAPES[shape_name]
    if quick:
        height, width = height // 4, width // 4
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(n, classes, height, width, generator=generator)
    blobs = (n, -(-height // _BLOB), -(-width // _BLOB))
    frequencies = torch.arange(1, classes + 1).double() ** -1.2
    labels = torch.multinomial(frequencies, blobs[0] * blobs[1] * blobs[2], True, generator=generator).view(blobs)
    labels[torch.rand(blobs, generator=generator) < _VOID_SHARE] = VOID
    target = functional.interpolate(labels[:, None].double(), scale_factor=_BLOB)[:, 0, :height, :width]
    return logits.to(device), target.long().contiguous().to(device)
