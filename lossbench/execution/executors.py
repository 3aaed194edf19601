"""Which executor a run uses. Those of clusters, and what they need, are imported when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lossbench.cells import Cell
from lossbench.errors import SetupError
from lossbench.execution.base import Executor
from lossbench.execution.capacity import Capacity, machine
from lossbench.execution.local import LocalExecutor
from lossbench.execution.plugins import plugin_modules
from lossbench.registry import Kind, Registry

if TYPE_CHECKING:
    from lossbench.execution.suite_run import RunOptions


def make_executor(options: RunOptions, cells: Sequence[Cell], registries: Mapping[Kind, Registry]) -> Executor:
    """The executor that `options` name. Raises SetupError where the machine lacks what it needs."""
    if options.executor == "slurm":
        from lossbench.execution.slurm import SlurmExecutor

        return SlurmExecutor(options.results, options.suite, jobs=options.jobs)
    if options.executor == "ray":
        try:
            module = importlib.import_module("lossbench.execution.ray")
        except ImportError as error:
            raise SetupError(
                f"--executor ray needs the package ray ({error})", hint='pip install "lossbench[ray]"'
            ) from None
        ray: Executor = module.RayExecutor(address=options.address)
        return ray
    executor = LocalExecutor(local_capacity(options, len(cells)), preload=plugin_modules(cells, registries))
    executor.warm_up()
    return executor


def local_capacity(options: RunOptions, cells: int) -> Capacity:
    """What this machine has to give."""
    return machine(
        options.devices,
        cells,
        jobs=options.jobs,
        threads=options.threads,
        slots_per_device=options.slots_per_device,
    )
