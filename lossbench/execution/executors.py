"""Which executor a run uses. Those of clusters, and what they need, are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lossbench.cells import Cell
from lossbench.errors import ConfigError
from lossbench.execution.base import Executor
from lossbench.execution.capacity import Capacity, machine
from lossbench.execution.local import LocalExecutor
from lossbench.execution.plugins import plugin_modules
from lossbench.registry import Kind, Registry

if TYPE_CHECKING:
    from lossbench.execution.suite_run import RunOptions


#: Options of `run` that mean something to these executors alone.
_ONLY = {
    "--address": ("ray",),
    "--detach": ("slurm",),
    "--devices": ("local",),
    "--slots-per-device": ("local", "ray"),
    "--threads": ("local",),
}
_CLUSTER_HINT = "on a cluster the suite says what a cell takes: `resources` with gpus and cpus"
_HINTS = {
    "--address": "it names a Ray cluster",
    "--detach": "other executors end with the command that started them",
    "--devices": _CLUSTER_HINT,
    "--slots-per-device": _CLUSTER_HINT,
    "--threads": _CLUSTER_HINT,
}


def check_options(executor: str, given: Iterable[str]) -> None:
    """Raises ConfigError when one of the options `given` means nothing to the executor: better than not to heed it."""
    for option in given:
        heeding = _ONLY[option]
        if executor not in heeding:
            raise ConfigError(f"{option} needs --executor {' or '.join(heeding)}", hint=_HINTS[option])


def make_executor(options: RunOptions, cells: Sequence[Cell], registries: Mapping[Kind, Registry]) -> Executor:
    """The executor that `options` name. Raises SetupError where the machine lacks what it needs."""
    if options.executor == "slurm":
        from lossbench.execution.slurm import SlurmExecutor

        return SlurmExecutor(options.results, options.suite, jobs=options.jobs)
    if options.executor == "ray":
        from lossbench.execution.ray import RayExecutor

        return RayExecutor(address=options.address, jobs=options.jobs, slots_per_device=options.slots_per_device)
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
