"""Which devices this machine has. Torch is imported only where an accelerator may be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lossbench.errors import ConfigError, SetupError


def may_have_accelerator() -> bool:
    """False where there surely is none. Asks the file system only: asking torch starts CUDA's driver, and a process
    that has done so can no longer fork one that uses it."""
    return sys.platform != "linux" or Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists()


def discover() -> list[str]:
    """["cuda:0", ...], ["mps"], or ["cpu"]."""
    if not may_have_accelerator():
        return ["cpu"]
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else ["cpu"]


def parse(text: str) -> list[str]:
    """Devices from the command line: `auto`, `cpu`, `0,2` (CUDA indices), `cuda:1`. Raises ConfigError."""
    if text == "auto":
        return discover()
    devices = [f"cuda:{part}" if part.isdigit() else part for part in text.replace(" ", "").split(",")]
    for device in devices:
        if device.partition(":")[0] not in ("cpu", "cuda", "mps"):
            raise ConfigError(f"unknown device '{device}'", hint="use auto, cpu, mps, cuda:0 or 0,1")
    return devices


def resolve(devices: Sequence[str]) -> tuple[str, ...]:
    """Devices where "auto" stands for what this machine has: its first GPUs, or the CPU where it has none. Raises
    SetupError when it has some, but fewer than asked for."""
    if "auto" not in devices:
        return tuple(devices)
    found = discover()
    if "cpu" in found:
        return ("cpu",) * len(devices)
    if len(found) < len(devices):
        raise SetupError(
            f"{len(devices)} GPUs were asked for, this machine gives {len(found)}", hint="check resources.gpus"
        )
    return tuple(found[: len(devices)])


def describe(devices: Sequence[str], workers: int, threads: int) -> str:
    """`2 workers on cpu, 1 thread each`."""
    kinds = ", ".join(dict.fromkeys(devices))
    plural = "s" if workers > 1 else ""
    return f"{workers} worker{plural} on {kinds}, {threads} thread{'s' if threads > 1 else ''} each"
