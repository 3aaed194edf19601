"""BatchNorm over the micro-batches of all ranks: torch's on CUDA; for the CPU, where torch has none, one of our own."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lossbench.errors import ConfigError

#: Layers that are known to do nothing else than their name says.
KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm whose training statistics are those of all ranks' inputs together, as if they were one batch.

    By two sums over the ranks, mean and then squared distances from it: slower than by raw moments in one, but as exact
    as BatchNorm of the whole batch.

    Args:
        layer: what it replaces; weights and buffers stay the same objects, under the same names.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.weight, self.bias = layer.weight, layer.bias
        self._buffers.update(layer._buffers)
        self.drop: Any = getattr(layer, "drop", None)  # of timm's BatchNormAct2d
        self.act: Any = getattr(layer, "act", None)
        self.train(layer.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Whatever the layer it stands for took."""

    def forward(self, input: Tensor) -> Tensor:
        output = self._synced(input) if self.training else super().forward(input)
        if self.drop is not None:
            output = self.drop(output)
        return self.act(output) if self.act is not None else output

    def _synced(self, input: Tensor) -> Tensor:
        wide = input.float()
        dims = [0, *range(2, wide.dim())]
        shape = [1, -1, *[1] * (wide.dim() - 2)]
        count = torch.tensor(float(wide.numel() // wide.shape[1]))
        dist.all_reduce(count)
        mean = _sum_over_ranks(wide.sum(dims)) / count
        centred = wide - mean.view(shape)
        variance = _sum_over_ranks(centred.square().sum(dims)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (centred * scale.view(shape)).to(input.dtype)
        return (centred * (scale * self.weight).view(shape) + self.bias.view(shape)).to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, unless they are hidden (see `montecarlo`) or not kept."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


class _SumOverRanks(torch.autograd.Function):
    """A sum over the ranks; every rank's gradient by it counts for every rank's term."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _sum_over_ranks(value: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(value)
    return total


def synchronise(model: nn.Module, device: torch.device) -> None:
    """Replace every BatchNorm inside `model` by one over all ranks; names and tensors of its state stay as they are.

    Raises:
        ConfigError: one of them is of a kind that may do more than normalise.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and type(layer) not in KNOWN:
            raise ConfigError(
                f"sync_batchnorm: layer '{name}' is a {type(layer).__name__}, which cannot be synchronised",
                hint="set `sync_batchnorm: false`, or take another backbone",
            )
    if device.type == "cuda":
        convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                parent.add_module(name, SyncedBatchNorm(child))
