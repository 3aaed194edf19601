"""The device a cell runs on, and the memory it took there."""

from __future__ import annotations

import resource
import sys

import torch

from lossbench.errors import ConfigError, SetupError


def require_device(name: str) -> torch.device:
    """The device of that name. Raises ConfigError when it is no name, SetupError when this torch does not see it."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"'{name}' is no device", hint="use cpu, mps or cuda:0") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SetupError(f"device {name} was asked for, but this torch sees no CUDA device", hint="use --device cpu")
    return device


def peak_memory_mb(device: torch.device) -> tuple[float, str]:
    """Peak memory in MiB: of the CUDA allocator, else the largest resident size of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1), "cuda"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1), "rss"
