"""Optimiser and learning-rate schedule. The schedule is a pure function of the step, so resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from lossbench.backbones.base import Backbone
from lossbench.protocol import Protocol

#: Devices with fused optimisers.
FUSED = frozenset({"cpu", "cuda"})


def learning_rate(step: int, protocol: Protocol) -> float:
    """Learning rate of optimiser step `step` (0-based).

    poly: (lr - min_lr) (1 - step / iterations)^power + min_lr, as in the DeepLab recipes; cosine: half a cosine
    from lr to min_lr; constant: lr. The first `warmup` steps rise linearly to the schedule.
    """
    done = step / protocol.iterations
    span = protocol.lr - protocol.min_lr
    if protocol.schedule == "poly":
        lr = protocol.min_lr + span * math.pow(1 - done, protocol.power)
    elif protocol.schedule == "cosine":
        lr = protocol.min_lr + span * (1 + math.cos(math.pi * done)) / 2
    else:
        lr = protocol.lr
    if step < protocol.warmup:
        lr *= (step + 1) / protocol.warmup
    return lr


def build_optimizer(model: Backbone, loss: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    """SGD or AdamW with two groups: the encoder, and everything else (head, and a loss's own parameters, if it
    has any) at `head_lr_factor` times the rate.

    Fused where torch has it: one pass over weights, gradients and moments. Equal to torch's plain loop but for the
    last bit of rounding. Not SGD under fp16: on a step that the gradient scaler skips, fused SGD makes a momentum
    buffer of what memory happens to hold.
    """
    encoder = [p for p in model.encoder_parameters() if p.requires_grad]
    in_encoder = {id(p) for p in encoder}
    rest = [p for p in (*model.parameters(), *loss.parameters()) if p.requires_grad and id(p) not in in_encoder]
    groups: list[dict[str, Any]] = [
        {"params": params, "factor": factor}
        for params, factor in ((encoder, 1.0), (rest, protocol.head_lr_factor))
        if params
    ]
    skips = protocol.optimizer == "sgd" and protocol.amp == "fp16"
    fused = not skips and all(p.device.type in FUSED for group in groups for p in group["params"])
    settings: dict[str, Any] = {"lr": protocol.lr, "weight_decay": protocol.weight_decay, "fused": fused}
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=protocol.momentum, **settings)
    return torch.optim.AdamW(groups, **settings)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group `lr` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]


def trainable(optimizer: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    """All parameters the optimiser moves."""
    return (p for group in optimizer.param_groups for p in group["params"])
