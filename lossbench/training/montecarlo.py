"""Monte-Carlo dropout for the price of the head: fresh stochastic logits of a batch, and no other trace.

Dropout at train time makes every forward pass a sample (Gal and Ghahramani 2016). A backbone's trunk is
deterministic, so T passes differ in the head alone, and re-running the head T times on the same features has exactly
the distribution of T passes of the whole network in which BatchNorm sees the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from lossbench.backbones.base import Backbone, Narrow
from lossbench.training.seeding import derive_seed


class Resampler:
    """Returns fresh stochastic logits of the batch behind `features`, at every call.

    Call k (0, 1, ...) draws from a generator seeded by (seed, k) alone, so its masks do not depend on what the training
    pass drew, and the training pass not on whether anything was resampled. A call leaves everything as it was: the
    global random state of the CPU and of the features' GPU, the buffers of BatchNorm layers, every train/eval
    flag; also when the head raises.

    Dropout layers are active whatever mode the backbone is in; all else is in the mode it is in. Gradient is recorded
    as the caller's grad mode says: under `torch.no_grad()` none is; otherwise it flows through the features into the
    trunk. Autocast is as it was where this object was made, so make it where the training pass runs.

    Args:
        backbone: the network, weights as in the training pass.
        features: what `backbone.trunk` returned for the batch.
        size: height and width of the logits.
        seed: a different one for every step and cell; see `derive_seed`.
    """

    def __init__(self, backbone: Backbone, features: Any, size: tuple[int, int], *, seed: int) -> None:
        self._backbone, self._features, self._size, self._seed = backbone, features, size, seed
        self._device = next((tensor.device for tensor in _tensors(features)), torch.device("cpu"))
        self._autocast = _current_autocast(self._device.type)
        modules = list(backbone.modules())
        self._dropouts = [module for module in modules if isinstance(module, _DropoutNd)]
        self._norms = [module for module in modules if isinstance(module, _NormBase)]
        self._passes = 0

    def __call__(self) -> Tensor:
        """Logits (N, num_classes, *size) of the next pass."""
        with self._pass():
            return self._backbone.head(self._features, self._size)

    def narrow(self) -> Narrow | None:
        """The next pass before its bilinear widening: that of `__call__`, at a fraction of the cost. None, and no pass
        counted, from a backbone whose head does not end in one."""
        with self._pass():
            made = self._backbone.narrow(self._features, self._size)
        self._passes -= made is None
        return made

    @contextmanager
    def _pass(self) -> Iterator[None]:
        seed = derive_seed(self._seed, self._passes)
        self._passes += 1
        with _own_generator(self._device, seed), _active(self._dropouts), _untouched(self._norms), self._autocast():
            yield


class PlainPasses:
    """Runs the whole network once more, at every call, as a plain training script would: in the mode it is in, with
    running statistics of BatchNorm updated. For controls that measure what such passes do to a run.

    As with `Resampler`, call k draws from a generator of its own, gradient and autocast are the caller's and the
    maker's, and the global random state stays as it was.

    Args:
        backbone: the network, in training mode.
        inputs: normalised images (N, 3, H, W).
        seed: a different one for every step and cell; see `derive_seed`.
    """

    def __init__(self, backbone: Backbone, inputs: Tensor, *, seed: int) -> None:
        self._backbone, self._inputs, self._seed = backbone, inputs, seed
        self._autocast = _current_autocast(inputs.device.type)
        self._passes = 0

    def __call__(self) -> Tensor:
        """Logits (N, num_classes, H, W) of the next pass."""
        seed = derive_seed(self._seed, self._passes)
        self._passes += 1
        with _own_generator(self._inputs.device, seed), self._autocast():
            logits: Tensor = self._backbone(self._inputs)
        return logits


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
