"""A cell's request in Slurm's terms."""

from __future__ import annotations

import math
from typing import Any

from lossbench.execution.base import Request, thaw

#: Minutes that Slurm's limit lies above a cell's own, for its start, its neighbours and its last checkpoint.
_SPARE_MIN = 3


def packed(request: Request) -> int:
    """Cells in one task: as many as share a GPU."""
    return int(1 / request.gpus + 1e-6) if request.gpus and request.gpus < 1 else 1


def parameters(request: Request, name: str, tasks: int, jobs: int | None = None) -> dict[str, Any]:
    """A request in submitit's terms. The suite's own keys win over what is derived.

    Args:
        tasks: of the array.
        jobs: of them at a time.
    """
    pack = packed(request)
    cpus = (request.cpus or 1) * pack
    own = {key: thaw(value) for key, value in request.slurm}
    derived: dict[str, Any] = {
        "job_name": name,
        "time": None if request.minutes is None else math.ceil(request.minutes) + _SPARE_MIN,
        "cpus_per_task": cpus,
        "gpus_per_node": math.ceil(request.gpus) if request.gpus else None,
        "mem": None if request.memory_gb is None else f"{math.ceil(request.memory_gb * pack * 1000)}M",
        "array_parallelism": jobs or tasks,
        "wckey": None,
    }
    if "gres" in own:
        del derived["gpus_per_node"]
    # Since Slurm 22.05 srun does not take --cpus-per-task from its job, and would leave the task one core of them.
    own["srun_args"] = [f"--cpus-per-task={cpus}", *own.get("srun_args", ())]
    # Without `requeue` neither Slurm nor a task may put the task back into the queue.
    more = {"requeue": True, **own.get("additional_parameters", {})}
    own["additional_parameters"] = {key: value for key, value in more.items() if value is not False}
    return derived | own
