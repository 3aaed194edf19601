"""Monte-Carlo dropout for the price of the head: fresh stochastic logits of a batch, and no other trace.

Dropout at train time makes every forward pass a sample (Gal and Ghahramani 2016). A backbone's trunk is
deterministic, so T passes differ in the head alone, and re-running the head T times on the same features has exactly
the distribution of T passes of the whole network in which BatchNorm sees the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from lossbench.backbones.base import Backbone
from lossbench.training.seeding import derive_seed


def make_resampler(backbone: Backbone, features: Any, size: tuple[int, int], *, seed: int) -> Callable[[], Tensor]:
    """A function that returns fresh stochastic logits of the batch behind `features`, at every call.

    Call k (0, 1, ...) draws from a generator seeded by (seed, k) alone, so its masks do not depend on what the training
    pass drew, and the training pass not on whether anything was resampled. A call leaves everything as it was: the
    global random state of the CPU and of the features' GPU, the buffers of BatchNorm layers, every train/eval
    flag; also when the head raises.

    Dropout layers are active whatever mode the backbone is in; all else is in the mode it is in. Gradient is recorded
    as the caller's grad mode says: under `torch.no_grad()` none is; otherwise it flows through the features into the
    trunk. Autocast is as it was where this function was called, so call it where the training pass runs.

    Args:
        backbone: the network, weights as in the training pass.
        features: what `backbone.trunk` returned for the batch.
        size: height and width of the logits.
        seed: a different one for every step and cell; see `derive_seed`.

    Returns:
        A function without arguments that returns logits (N, num_classes, *size).
    """
    device = next((tensor.device for tensor in _tensors(features)), torch.device("cpu"))
    autocast = _current_autocast(device.type)
    modules = list(backbone.modules())
    dropouts = [module for module in modules if isinstance(module, _DropoutNd)]
    norms = [module for module in modules if isinstance(module, _NormBase)]
    numbers = count()

    def resample() -> Tensor:
        number = next(numbers)
        with _own_generator(device, derive_seed(seed, number)), _active(dropouts), _untouched(norms), autocast():
            return backbone.head(features, size)

    return resample


@contextmanager
def _own_generator(device: torch.device, seed: int) -> Iterator[None]:
    """The global generators of the CPU and of `device` seeded by `seed`, and afterwards what they were."""
    gpus = [device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed: it would reseed every GPU, and fork_rng restores only this one.
        torch.default_generator.manual_seed(seed)
        for index in gpus:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


@contextmanager
def _active(dropouts: list[_DropoutNd]) -> Iterator[None]:
    """Dropout layers in train mode, and afterwards in the mode they were in."""
    asleep = [module for module in dropouts if not module.training]
    for module in asleep:
        module.training = True
    try:
        yield
    finally:
        for module in asleep:
            module.training = False


@contextmanager
def _untouched(norms: list[_NormBase]) -> Iterator[None]:
    """Running statistics of train-mode normalisation layers hidden, so that a pass normalises by its batch (as it
    would anyway) but has nothing to update."""
    hidden: list[tuple[_NormBase, str, Tensor]] = []
    try:
        for module in norms:
            if not module.training:
                continue
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                buffer = module._buffers.get(name)
                if buffer is not None:
                    hidden.append((module, name, buffer))
                    module._buffers[name] = None
        yield
    finally:
        for module, name, buffer in hidden:
            module._buffers[name] = buffer


def _current_autocast(device_type: str) -> Callable[[], torch.autocast]:
    """Makes contexts that repeat the present autocast state of a device type."""
    enabled = torch.is_autocast_enabled(device_type)
    dtype = torch.get_autocast_dtype(device_type)
    # Without the cache: in older releases of torch, a weight cast under no_grad and then cached cuts the training
    # pass off from its gradient.
    return lambda: torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=False)


def _tensors(features: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(features, Tensor):
        yield features
    elif isinstance(features, Mapping | tuple | list):
        for part in features.values() if isinstance(features, Mapping) else features:
            yield from _tensors(part)
