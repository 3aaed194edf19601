"""Optimiser and learning-rate schedule. The schedule is a pure function of the step, so resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from lossbench.backbones.base import Backbone
from lossbench.protocol import Protocol


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
    has any) at `head_lr_factor` times the rate."""
    encoder = [p for p in model.encoder_parameters() if p.requires_grad]
    in_encoder = {id(p) for p in encoder}
    rest = [p for p in (*model.parameters(), *loss.parameters()) if p.requires_grad and id(p) not in in_encoder]
    groups = [
        {"params": params, "factor": factor}
        for params, factor in ((encoder, 1.0), (rest, protocol.head_lr_factor))
        if params
    ]
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=protocol.lr, momentum=protocol.momentum, weight_decay=protocol.weight_decay)
    return torch.optim.AdamW(groups, lr=protocol.lr, weight_decay=protocol.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group `lr` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]


def trainable(optimizer: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    """All parameters the optimiser moves."""
    return (p for group in optimizer.param_groups for p in group["params"])
