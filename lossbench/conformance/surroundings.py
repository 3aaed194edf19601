"""The global state a plugin finds and has no business with: kept around every rule, and compared by `purity`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Setting:
    """One piece of global state.

    Attributes:
        get, put: read it in comparable form; set it to what `get` gave.
        others: makes two values of it that differ. So whatever a plugin sets to a fixed value is seen to change under
            one of the two.
    """

    get: Callable[[], Any]
    put: Callable[[Any], object]
    others: Callable[[], tuple[Any, Any]]


@contextmanager
def preserved() -> Iterator[None]:
    """All settings are what they were, whatever happens within."""
    before = state()
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def unusual(which: int, *, gradients: bool = True) -> Iterator[None]:
    """One of two surroundings, 0 and 1, that differ in every setting but the default device and the gradient mode.

    Surroundings 0 are those of a training run, but for the random states.
    """
    with preserved():
        _restore({what: setting.others()[which] for what, setting in SETTINGS.items()} | {_GRADIENTS: gradients})
        yield


def state() -> dict[str, Any]:
    """Every setting by what it is called in a report, in comparable form."""
    return {what: setting.get() for what, setting in SETTINGS.items()}


def _restore(wanted: dict[str, Any]) -> None:
    for what, setting in SETTINGS.items():
        if setting.get() != wanted[what]:
            setting.put(wanted[what])


_GRADIENTS = "gradient mode"
_SEEDS = (881_713_947, 327_119_381)  # nobody's favourite


def _numpy_state(found: Any) -> tuple[Any, ...]:
    name, keys, *rest = found
    return name, keys.tobytes(), *rest


def _put_numpy(wanted: tuple[Any, ...]) -> None:
    name, keys, *rest = wanted
    np.random.set_state((name, np.frombuffer(keys, np.uint32), *rest))  # noqa: NPY002


def _torch_state(found: torch.Tensor) -> bytes:
    return found.numpy().tobytes()


def _put_torch(wanted: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(wanted), dtype=torch.uint8))


def _autocast() -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")


def _put_autocast(wanted: tuple[bool, torch.dtype]) -> None:
    torch.set_autocast_enabled("cpu", wanted[0])
    torch.set_autocast_dtype("cpu", wanted[1])


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _cudnn() -> tuple[bool, bool]:
    return torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic


def _put_cudnn(wanted: tuple[bool, bool]) -> None:
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = wanted


def _put_device(wanted: torch.device) -> None:
    torch.set_default_device(None if wanted.type == "cpu" else wanted)  # None: as if it had never been called


def _threads() -> tuple[int, int]:
    return torch.get_num_threads(), torch.get_num_threads() + 1


SETTINGS: dict[str, Setting] = {
    "torch's random state": Setting(
        lambda: _torch_state(torch.get_rng_state()),
        _put_torch,
        lambda: (
            _torch_state(torch.Generator().manual_seed(_SEEDS[0]).get_state()),
            _torch_state(torch.Generator().manual_seed(_SEEDS[1]).get_state()),
        ),
    ),
    "numpy's random state": Setting(
        lambda: _numpy_state(np.random.get_state()),  # noqa: NPY002
        _put_numpy,
        lambda: (
            _numpy_state(np.random.RandomState(_SEEDS[0]).get_state()),
            _numpy_state(np.random.RandomState(_SEEDS[1]).get_state()),
        ),
    ),
    "Python's random state": Setting(
        random.getstate,
        random.setstate,
        lambda: (random.Random(_SEEDS[0]).getstate(), random.Random(_SEEDS[1]).getstate()),
    ),
    _GRADIENTS: Setting(torch.is_grad_enabled, torch.set_grad_enabled, lambda: (True, False)),
    "default dtype": Setting(torch.get_default_dtype, torch.set_default_dtype, lambda: (torch.float32, torch.float64)),
    "default device": Setting(torch.get_default_device, _put_device, lambda: (torch.get_default_device(),) * 2),
    "autocast": Setting(_autocast, _put_autocast, lambda: ((False, torch.bfloat16), (True, torch.float16))),
    "deterministic mode": Setting(
        _deterministic,
        lambda wanted: torch.use_deterministic_algorithms(wanted[0], warn_only=wanted[1]),
        lambda: ((False, False), (True, True)),  # warnings only: an operation may have no deterministic form
    ),
    "threads": Setting(torch.get_num_threads, torch.set_num_threads, _threads),
    "anomaly detection": Setting(torch.is_anomaly_enabled, torch.set_anomaly_enabled, lambda: (False, True)),
    "precision of matrix products": Setting(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, lambda: ("highest", "high")
    ),
    "cuDNN's settings": Setting(_cudnn, _put_cudnn, lambda: ((False, True), (True, False))),
}
