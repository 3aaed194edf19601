"""The interfaces between the scheduler, the executors and whoever watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from lossbench.cells import Cell
from lossbench.errors import SetupError
from lossbench.execution.spec import Spec


@dataclass(frozen=True)
class Request:
    """What a cell asks of an executor; None: the executor's default. Equal requests can be met by the same place.

    Attributes:
        gpus: a whole number, or a fraction below 1 to share one; 0: none.
        minutes: hard limit of one attempt, None for none.
        slurm: keys passed on to Slurm, without their prefix `slurm_`; their values as `freeze` gives them.
    """

    gpus: float | None = None
    cpus: int | None = None
    memory_gb: float | None = None
    minutes: float | None = None
    slurm: tuple[tuple[str, Any], ...] = ()


def freeze(value: Any) -> Any:
    """A value of a suite in a form that can be compared and hashed, as a Request must be."""
    if isinstance(value, Mapping):
        return frozenset((key, freeze(item)) for key, item in value.items())
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value


def thaw(value: Any) -> Any:
    """What `freeze` was given."""
    if isinstance(value, frozenset):
        return {key: thaw(item) for key, item in sorted(value)}
    return [thaw(item) for item in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Place:
    """Where a cell runs: reserved for it until it is released.

    Attributes:
        devices: "cpu", "cuda:0", "mps", or "auto": what the worker finds on the machine it wakes up on. Several when
            the cell runs on several at once.
        threads: CPU threads in all.
    """

    devices: tuple[str, ...]
    threads: int = 1


def cluster_place(request: Request) -> Place:
    """Where a cell runs on a cluster: on what its worker finds on the machine it wakes up on."""
    device = "cpu" if request.gpus == 0 else "auto"
    return Place((device,) * max(1, int(request.gpus or 0)), request.cpus or 1)


@dataclass(eq=False)
class Job:
    """A cell on its way.

    Attributes:
        infrastructure_deaths: times a worker of it was killed from outside, since it last got on.
        checkpointed: the furthest step it has left a checkpoint of.
        not_before: monotonic time before which it is not launched (another process holds its cell).
        passed_over: cells behind it that were started since it was first in the queue and found no place.
    """

    cell: Cell
    spec: Spec
    request: Request = Request()
    infrastructure_deaths: int = 0
    checkpointed: int = 0
    not_before: float = 0.0
    passed_over: int = 0


Status = Literal["done", "failed", "interrupted"]


@dataclass
class Outcome:
    """How a job ended. `error` is what error.json holds; `elsewhere`: another process computed it."""

    job: Job
    status: Status
    seconds: float = 0.0
    error: dict[str, Any] = field(default_factory=dict)
    elsewhere: bool = False


class Handle(Protocol):
    """A submitted worker."""

    def running(self) -> bool:
        """False while it waits in a cluster's queue: its time does not count yet."""

    def poll(self) -> int | None:
        """None until it has ended; then its exit code (see spec.py), negative for a signal, EXIT_LOST when nobody
        can tell or the machine went away, EXIT_OUT_OF_MEMORY also when the kernel or the cluster killed it for that."""

    def stop(self) -> None:
        """Ask it to checkpoint and leave. Returns at once."""

    def terminate(self) -> None:
        """Ask it to leave without a checkpoint."""

    def kill(self) -> None:
        """End it and everything it started."""


class NotNow(SetupError):
    """A worker could not be started for a reason that passes, and is no fault of the request. `retry_after_s`: seconds
    from now."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Executor(Protocol):
    """Where workers run. A worker gets a spec file and nothing else; whoever runs it, `worker.run_spec` is its entry.

    Attributes:
        poll_s: seconds between looks at running cells.
    """

    poll_s: float

    def refuses(self, request: Request) -> str | None:
        """Why a request can never be met here (`asks for 4 GPUs, there is 1`); None when it can."""

    def reserve(self, request: Request) -> Place | None:
        """A place for a cell, or None when there is none free now."""

    def release(self, place: Place) -> None:
        """Give it back."""

    def submit(self, specs: Sequence[tuple[Path, Request]]) -> list[Handle | Exception]:
        """Start a worker on each spec file: its handle, or why it could not be started (NotNow: to be tried
        again)."""

    def adopt(self, spec: Spec, request: Request) -> Handle | None:
        """The worker of a cell that an earlier scheduler submitted and that is still queued or running."""

    def wait(self, seconds: float) -> None:
        """Return as soon as a worker has ended, at the latest after `seconds`."""

    def close(self) -> None:
        """Called once, when the scheduler has nothing left to run."""


class Observer(Protocol):
    """Watches a run: the live display, plain lines, or a test."""

    def started(self, job: Job) -> None: ...

    def progressed(self, job: Job, event: dict[str, Any]) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...

    def said(self, message: str) -> None: ...
