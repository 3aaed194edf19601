"""Losses: one file each, found by scanning. Each is an ordinary `nn.Module`, useful in anybody's training loop.

    from lossbench.losses import FocalLoss
    FocalLoss(gamma=2.0)(logits, target)        # (N, C, H, W) float, (N, H, W) int64 -> scalar

The contract of a loss (checked rule by rule in `lossbench.conformance`):

* Raw logits (N, C, H, W) of any floating dtype and labels (N, H, W) int64 in; a 0-dim tensor of float32 or wider out.
* The constructor takes facts about the data by fixed names (`num_classes`, `class_counts`, `ignore_index=255`); all
  other parameters are keyword-only, annotated, with literal defaults: they are the loss's hyper-parameters.
* A parameter `terms: list[LossTerm]` takes other registered losses (`lossbench.registry.LossTerm`): a suite names them,
  the registry builds them; see `sum`.
* Pixels labelled `ignore_index` count for nothing: whatever their logits are, their gradient is exactly 0.
  A batch of nothing else gives 0 with zero gradients.

Optional, found by name:

* `extra_forwards: int`: how many times a call runs `resample`; a loss that has it takes a third argument
  `forward(logits, target, resample)`, a function without arguments that returns fresh stochastic logits (N, C, H, W) of
  the same batch. The loss itself switches gradients off around it, unless `resample_with_grad: bool` is true.
  Where `extra_forwards` is 0, the engine leaves the argument out.
* `plain_passes: bool`: for controls. If true, `resample` runs the whole network as a plain script would, so that every
  call updates the running statistics of BatchNorm (weights, training masks and other random numbers stay untouched).
* `random_shift: tuple[str | int, ...]`: for controls. If not empty, sample order, crops, flips and dropout masks come
  from another random stream, named by it; of what paired runs share, only the initial weights stay.
* `diagnostics: dict[str, Tensor]`: detached 0-dim tensors about the last forward, cheap to make and made without a
  host sync (no `.item()`); the engine reads them at its log points.
* `diagnose(logits, target) -> dict[str, Tensor]`: more of them, which may cost time: the engine calls it at its log
  points only, without gradients, right after `forward` of the same batch. Detached tensors, 0-dim or one value per
  class (C,); NaN where there is nothing to tell. Those per class are kept at some 20 steps of a run.
* `conformance_exceptions: ClassVar[dict[str, str]]`: rules of `lossbench.conformance` that do not apply, each with its
  reason.

A loss needs no entry here: its class is importable from this package as soon as its file lies in the folder. The
import is lazy (PEP 562), so that `import lossbench.losses` does not import torch.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _modules() -> dict[str, str]:
    """{class or function name: module} of every registered loss of this folder, from the syntax trees."""
    from lossbench.registry import scan_file

    files = sorted(file for file in Path(__file__).parent.glob("*.py") if not file.name.startswith("_"))
    return {
        plugin.attribute: f"{__name__}.{file.stem}"
        for file in files
        for plugin in scan_file(file, None)
        if plugin.kind == "loss"
    }


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in _modules():
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_modules()[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_modules()])
