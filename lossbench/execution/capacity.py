"""What a machine has and what of it is taken: GPUs in fractions, CPU cores, memory. Pure accounting."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from lossbench.execution.base import Place, Request

#: Cells on a GPU at the most, however small a fraction they ask for.
_MOST_PER_GPU = 16
#: Shares below this are none: sums of fractions such as 1/3 are not exact.
_EPSILON = 1e-6


class Capacity:
    """Places on one machine.

    A cell that says nothing takes one slot: 1/slots_per_device of a GPU, or one of the CPU's slots. Fractions are
    packed best-fit, so that whole GPUs stay whole for who needs them.

    Args:
        devices: "cuda:0", ..., "mps", or "cpu".
        slots: cells at a time, at the most.
        slots_per_device: cells that share a GPU when they do not say how much of it they take.
        threads: CPU threads of a cell that does not say how many.
        cores: CPU cores to share out.
        memory_gb: main memory to share out.
    """

    def __init__(
        self,
        devices: Sequence[str],
        slots: int,
        *,
        slots_per_device: int = 1,
        threads: int = 1,
        cores: int,
        memory_gb: float = math.inf,
    ) -> None:
        self.slots, self.threads, self._cores, self._memory = slots, threads, cores, memory_gb
        #: Cells at a time when none asks for anything.
        self.usual = slots if "cpu" in devices else min(slots, len(devices) * slots_per_device)
        self._default_share = 1 / slots_per_device
        self._gpus = {device: 1.0 for device in devices if device != "cpu"}
        self._count = len(self._gpus)
        self._taken: dict[int, tuple[Place, int, float, dict[str, float]]] = {}
        self._free_slots, self._free_cores, self._free_memory = slots, cores, memory_gb

    def refuses(self, request: Request) -> str | None:
        """Why a request never fits on this machine; None when it does."""
        gpus = request.gpus or 0
        if self._count and gpus > self._count:
            return f"asks for {gpus:g} GPUs; there {'is' if self._count == 1 else 'are'} {self._count}"
        if not self._count and gpus > self.slots:
            return f"asks for {gpus:g} devices; without a GPU each is a process on the CPU, and there are {self.slots}"
        if (request.cpus or 0) > self._cores:
            return f"asks for {request.cpus} CPU cores; there are {self._cores}"
        if (request.memory_gb or 0) > self._memory:
            return f"asks for {request.memory_gb:g} GB of memory; there are {self._memory:.3g}"
        return None

    def reserve(self, request: Request) -> Place | None:
        """A place, or None when there is none free now."""
        shares = self._shares(request.gpus)
        slots = 1 if self._count else max(1, int(request.gpus or 0))
        cores = request.cpus or min(self.threads * max(1, int(request.gpus or 0)), self._cores)
        memory = request.memory_gb or 0.0
        if (
            shares is None
            or slots > self._free_slots
            or cores > self._free_cores
            or memory > self._free_memory + _EPSILON
        ):
            return None
        place = Place(tuple(shares) or ("cpu",) * slots, cores)
        for device, share in shares.items():
            self._gpus[device] -= share
        self._free_slots -= slots
        self._free_cores -= cores
        self._free_memory -= memory
        self._taken[id(place)] = place, slots, memory, shares
        return place

    def release(self, place: Place) -> None:
        """Give a place back."""
        _, slots, memory, shares = self._taken.pop(id(place))
        for device, share in shares.items():
            self._gpus[device] += share
        self._free_slots += slots
        self._free_cores += place.threads
        self._free_memory += memory

    def _shares(self, gpus: float | None) -> dict[str, float] | None:
        """How much of which GPU; empty without one; None when they are busy."""
        if not self._count or gpus == 0:
            return {}
        need = self._default_share if gpus is None else gpus
        if need >= 1:
            whole = [device for device, free in self._gpus.items() if free > 1 - _EPSILON]
            return dict.fromkeys(whole[: int(need)], 1.0) if len(whole) >= need else None
        fitting = [device for device, free in self._gpus.items() if free >= need - _EPSILON]
        return {min(fitting, key=lambda device: self._gpus[device]): need} if fitting else None


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def machine_memory_gb() -> float:
    """Main memory of this machine, GB; infinite where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return math.inf


def machine(
    devices: Sequence[str],
    cells: int,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    slots_per_device: int = 1,
) -> Capacity:
    """What this machine has for `cells` cells.

    On GPUs `slots_per_device` cells run on each. On a CPU one-thread workers side by side give the most throughput: as
    many as there are cores or cells.

    Args:
        jobs: cells at a time; None: as many as fit.
        threads: CPU threads of each, also if that is more than there are cores; None: the cores shared out.
    """
    devices = list(dict.fromkeys(devices)) or ["cpu"]
    cores = available_cores()
    usual = min(cores, max(1, cells)) if devices == ["cpu"] else len(devices) * slots_per_device
    slots = jobs or (usual if devices == ["cpu"] else _MOST_PER_GPU * len(devices))
    side_by_side = slots if devices == ["cpu"] else min(slots, usual)
    each = threads or max(1, cores // side_by_side)
    cores = max(cores, each * side_by_side)
    return Capacity(
        devices,
        slots,
        slots_per_device=slots_per_device,
        threads=each,
        cores=cores,
        memory_gb=machine_memory_gb(),
    )
