"""Boundary loss."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.errors import ParameterError
from lossbench.losses._pixel import Pixels, check_choice, check_number, label_counts, prepare
from lossbench.losses.ce import cross_entropy
from lossbench.losses.generalised_dice import GeneralisedDiceLoss
from lossbench.registry import register_loss


def signed_distances(pixels: Pixels) -> Tensor:
    """phi_c (N, C, H, W) float32: the distance in pixels to class c's region, negative inside of it.

    Outside the distance to the nearest pixel of the class, inside minus (the distance to the nearest pixel that is not,
    less 1), as in the authors' code: the innermost layer at the contour is 0. 0 for a class that an image does not
    hold or that fills it, which has no contour. Ignored pixels belong to no class. Made on the CPU.
    """
    from scipy.ndimage import distance_transform_edt

    target = pixels.target.masked_fill(~pixels.valid, -1).cpu().numpy()
    maps = np.zeros((target.shape[0], pixels.logits.shape[1], *target.shape[1:]), dtype=np.float32)
    for image, labels in enumerate(target):
        for label in np.unique(labels[labels >= 0]).tolist():
            inside = labels == label
            if not inside.all():
                outer, inner = distance_transform_edt(~inside), distance_transform_edt(inside)
                maps[image, label] = np.where(inside, 1 - inner, outer)
    return torch.from_numpy(maps).to(pixels.logits.device)


@register_loss("boundary")
class BoundaryLoss(nn.Module):
    """Boundary loss beside a base loss: base + alpha_t B, B = mean over pixels of sum_c phi_c p_c.

    phi_c is the signed distance in pixels to the true region of class c, negative inside; alpha_t rises linearly from 0
    to alpha over the first `ramp_steps` training steps.

    Source: Kervadec et al. 2019, "Boundary loss for highly unbalanced segmentation", eq. 5 and 7, with generalised
    Dice as the base. Not as in the authors' code: there alpha starts at 0.01 and gains 0.01 every epoch, by one of
    their schedules at the expense of the base; B is the mean over the classes too (here their sum, so that alpha does
    not hang on C); and generalised Dice is taken image by image (here over the batch).

    A false pixel costs by how far out it lies, not by the size of its class, which helps thin and small regions.
    Traps: B alone has a minimum where nothing is predicted of a class, hence the base and the ramp; B may be negative;
    its scale is pixels, so alpha depends on the size of the images. The distances are made on the CPU, a class and
    image at a time: slow with many classes. The ramp is state: `steps` is in the state_dict, and calls in eval mode do
    not count.

    Args:
        alpha: weight of B at the end of the ramp, >= 0. At 0 the loss is its base.
        ramp_steps: training steps until alpha is reached; 0: from the first.
        base: the loss beside it.
        ignore_index: label of pixels that count for nothing.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        steps: () int64, training steps so far.
        diagnostics: of the last call: `base`, `boundary` (B), `alpha`.

    Raises:
        ParameterError: a number out of range, or an unknown base.
        ConfigError: wrong shape or dtype, or a label outside 0..C-1 (on CPU).
    """

    conformance_exceptions: ClassVar[dict[str, str]] = {
        "pixel_permutation": "distances between pixels",
        "compaction": "distances between pixels",
    }
    steps: Tensor

    def __init__(
        self,
        *,
        alpha: float = 0.01,
        ramp_steps: int = 1000,
        base: Literal["generalised_dice", "ce"] = "generalised_dice",
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_number("boundary", "alpha", alpha)
        if ramp_steps < 0:
            raise ParameterError(f"boundary: ramp_steps must be at least 0, got {ramp_steps}", parameter="ramp_steps")
        check_choice("boundary", "base", base, ("generalised_dice", "ce"))
        self.alpha, self.ramp_steps, self.base, self.ignore_index = alpha, ramp_steps, base, ignore_index
        self._dice = GeneralisedDiceLoss(ignore_index=ignore_index)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.diagnostics: dict[str, Tensor] = {}

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.base == "ce":
            base = cross_entropy(logits, target, ignore_index=self.ignore_index)
        else:
            base = self._dice(logits, target)
        pixels = prepare(logits, target, self.ignore_index)
        label_counts(pixels)  # for its check of the labels
        prob = pixels.logits.softmax(1).masked_fill(~pixels.valid.unsqueeze(1), 0.0)
        boundary = (signed_distances(pixels) * prob).sum() / pixels.valid.sum().clamp(min=1)
        ramp = (self.steps / self.ramp_steps).clamp(max=1) if self.ramp_steps else torch.ones_like(self.steps).float()
        alpha = self.alpha * ramp
        if self.training:
            self.steps += 1
        self.diagnostics = {"base": base.detach(), "boundary": boundary.detach(), "alpha": alpha}
        return base + alpha.to(base.dtype) * boundary

    def extra_repr(self) -> str:
        said = f"alpha={self.alpha}, ramp_steps={self.ramp_steps}, base={self.base!r}"
        return f"{said}, ignore_index={self.ignore_index}"
