"""Submit and leave: everything is handed to a cluster, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lossbench.execution.base import Executor, Job, Outcome
from lossbench.execution.worker import describe_error


@dataclass(frozen=True)
class Left:
    """What became of the cells: how many were submitted now, how many were queued or running already, and those
    that could not be submitted."""

    submitted: int = 0
    before: int = 0
    failed: tuple[Outcome, ...] = ()


def leave(executor: Executor, jobs: Sequence[Job]) -> Left:
    """Submit each job that no cluster has yet."""
    new = [job for job in jobs if executor.adopt(job.spec, job.request) is None]
    specs, failed = [], list[Outcome]()
    for job in new:
        place = executor.reserve(job.request)
        if place is None:
            raise RuntimeError("an executor of a cluster has a place for every cell: its queue")
        job.spec = replace(job.spec, devices=place.devices, threads=place.threads)
        try:
            specs.append((job, job.spec.write()))
        except OSError as error:
            failed.append(Outcome(job, "failed", error=describe_error(error)))
    handles = executor.submit([(path, job.request) for job, path in specs])
    for (job, _), handle in zip(specs, handles, strict=True):
        if isinstance(handle, Exception):
            failed.append(Outcome(job, "failed", error=describe_error(handle)))
    return Left(len(new) - len(failed), len(jobs) - len(new), tuple(failed))
