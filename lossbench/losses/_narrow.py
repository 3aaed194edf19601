"""The probability of one class per pixel of bilinearly widened logits, without widening them.

Between two rows a and b of the narrow map logits are linear: z(f) = a + f (b - a). Down a cell of evenly spaced rows
exp z therefore grows, per class and column, by the constant factor exp(step (b - a)), and the softmax of a row follows
from the row above by one multiplication. That takes two exponentials per class, column and cell, where softmax over
the widened map takes one per class and pixel, and nothing of that map's size is ever made.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lossbench.losses._pixel import target_log_prob, widen

#: Rows after which the exponential is taken anew, so that rounding does not build up.
RESTART = 8
#: Logits of a pixel may differ by this much (nats); beyond it exp might underflow at every class of a pixel in between.
LARGEST_SPREAD = 80.0
#: Widening by less leaves too few rows in a cell to be worth it.
LEAST_FACTOR = 3
#: Elements of a working buffer: what goes beyond it is taken in turn, image by image or strip by strip.
BLOCK = 1 << 20


class Narrow(Protocol):
    """Logits (N, C, h, w) that stand for their bilinear widening to `size`, or for the top left part of it."""

    @property
    def logits(self) -> Tensor: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def align_corners(self) -> bool: ...


class Cells(NamedTuple):
    """How widened rows lie between the rows of a narrow map: I cells, each of at most J evenly spaced rows.

    Cell i lies between rows `top` + i and `top` + i + 1 of the narrow map with its border rows repeated once.

    Attributes:
        top: the first cell's upper row.
        first: (I, 1) float32, where in its cell the first row lies, 0 (upper row) to 1.
        step: distance of rows.
        phases: J.
        rows: (J * I,) int64, the widened row at phase j of cell i; some row where the cell has fewer.
        back: (H,) int64, the entry of `rows` where each widened row is.
    """

    top: int
    first: Tensor
    step: float
    phases: int
    rows: Tensor
    back: Tensor


@lru_cache(maxsize=16)
def cells(narrow: int, wide: int, kept: int, align_corners: bool) -> Cells:
    """The cells of the first `kept` of `wide` rows over `narrow` ones, at the float32 positions F.interpolate uses."""
    row = np.arange(kept, dtype=np.float32)
    if align_corners:
        step = np.float32((narrow - 1) / max(wide - 1, 1))
        position = row * step
    else:
        step = np.float32(narrow / wide)
        position = (row + np.float32(0.5)) * step - np.float32(0.5)
    above = np.floor(position).astype(np.int64)
    cell = above - above[0]
    start = np.searchsorted(cell, np.arange(cell[-1] + 1))
    phase = np.arange(kept) - start[cell]
    rows = (start + np.arange(phase.max() + 1)[:, None]).clip(max=kept - 1)
    return Cells(
        top=int(above[0]) + 1,
        first=torch.from_numpy((position - above)[start].astype(np.float32))[:, None],
        step=float(step),
        phases=len(rows),
        rows=torch.from_numpy(rows.flatten()),
        back=torch.from_numpy(phase * len(start) + cell),
    )


def widened_probability(narrow: Narrow, classes: Tensor) -> Tensor:
    """Softmax probabilities at `classes` (N, H, W) by way of the whole widened map: the plain way, for any logits."""
    wide = F.interpolate(narrow.logits, size=narrow.size, mode="bilinear", align_corners=narrow.align_corners)
    wide = wide[..., : classes.shape[-2], : classes.shape[-1]]
    return target_log_prob(widen(wide).log_softmax(1), classes).exp()


class CellProbability:
    """Softmax probabilities at `classes` of narrow logits, cell by cell and pass after pass.

    Results come in the order of the cells, (N, J * I, W): what is done pixel by pixel may be done in that order, and
    `restore` brings it into the order of the rows.

    Args:
        classes: (N, H, W) int64, on the CPU.
        narrow: a first pass; the others must have its shape.
    """

    def __init__(self, classes: Tensor, narrow: Narrow) -> None:
        self._plain_classes = classes
        height, self._width = classes.shape[-2:]
        self._cells = cells(narrow.logits.shape[-2], narrow.size[0], height, narrow.align_corners)
        self._classes = classes[:, self._cells.rows].view(len(classes), self._cells.phases, -1, self._width)

    @staticmethod
    def pays(narrow: Narrow) -> bool:
        """Whether this is the faster way, and as exact: on a CPU, in float32, for a real widening."""
        logits = narrow.logits
        widened = narrow.size[0] >= LEAST_FACTOR * logits.shape[-2]
        return widened and logits.device.type == "cpu" and logits.dtype == torch.float32

    def restore(self, values: Tensor) -> Tensor:
        """(N, J * I, W) in the order of the cells to (N, H, W)."""
        return values[:, self._cells.back]

    def __call__(self, narrow: Narrow) -> Tensor:
        """p at the classes, (N, J * I, W) in the order of the cells.

        Raises:
            ConfigError: a class outside 0..C-1.
        """
        logits = narrow.logits.contiguous()
        # Softmax does not see what all classes of a pixel share, and bilinear widening keeps it shared.
        logits = logits - logits.amax(1, keepdim=True)
        if not float(logits.amin()) > -LARGEST_SPREAD:  # also when it is NaN
            return widened_probability(narrow, self._plain_classes)[:, self._cells.rows]
        top, first = self._cells.top, self._cells.first
        rows = F.pad(logits * math.log2(math.e), (0, 0, 1, 1), mode="replicate")
        p = torch.empty(self._classes.shape, dtype=logits.dtype)
        images = max(1, BLOCK // (logits.shape[1] * len(first) * self._width))
        height = max(1, BLOCK // (logits.shape[1] * self._width))  # cells at a time: all, where one image fits
        for image, cell in product(range(0, len(p), images), range(0, len(first), height)):
            here = slice(image, image + images), slice(None), slice(cell, cell + height)
            part = rows[here[0], :, top + cell : top + min(cell + height, len(first)) + 1]
            self._fill(p[here], part, self._classes[here], first[here[2]].to(p.dtype), narrow)
        return p.flatten(1, 2)

    def _fill(self, p: Tensor, rows: Tensor, classes: Tensor, first: Tensor, narrow: Narrow) -> None:
        """p (n, J, I, W) from rows (n, C, I + 1, w), base-2 logits at most 0, at classes (n, J, I, W)."""
        lines = rows.flatten(0, 2)[None]
        wide = F.interpolate(lines, size=narrow.size[1], mode="linear", align_corners=narrow.align_corners)
        wide = wide.view(*rows.shape[:3], -1)[..., : self._width]
        above, rise = wide[:, :, :-1], wide[:, :, 1:] - wide[:, :, :-1]
        factor = (rise * self._cells.step).exp2_()  # exp2 takes half the time of exp
        power = torch.empty_like(factor)
        for phase in range(self._cells.phases):
            if phase % RESTART == 0:
                torch.addcmul(above, rise, first + phase * self._cells.step, out=power).exp2_()
            else:
                power.mul_(factor)
            torch.div(target_log_prob(power, classes[:, phase]), power.sum(1), out=p[:, phase])
