"""The interfaces between the scheduler, the executors and whoever watches."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from lossbench.cells import Cell
from lossbench.execution.spec import Spec


@dataclass
class Job:
    """A cell on its way.

    Attributes:
        minutes: hard limit of one attempt, None for none.
        infrastructure_deaths: times a worker of it was killed from outside.
        not_before: monotonic time before which it is not launched (another process holds its cell).
    """

    cell: Cell
    spec: Spec
    minutes: float | None = None
    infrastructure_deaths: int = 0
    not_before: float = 0.0


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

    def poll(self) -> int | None:
        """Exit code (negative: signal), None while it runs."""

    def stop(self) -> None:
        """Ask it to checkpoint and leave."""

    def kill(self) -> None:
        """End it and its children at once."""


class Executor(Protocol):
    """Where workers run. A worker gets a spec file and nothing else."""

    slots: int

    def take_device(self) -> str | None:
        """Reserve a free device, or None when all are busy."""

    def give_back(self, device: str) -> None:
        """Free it again."""

    def submit(self, spec: Path) -> Handle:
        """Start a worker on a spec file."""

    def wait(self, seconds: float) -> None:
        """Return as soon as a worker has ended, at the latest after `seconds`."""


class Observer(Protocol):
    """Watches a run: the live display, plain lines, or a test."""

    def started(self, job: Job) -> None: ...

    def progressed(self, job: Job, event: dict[str, Any]) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...

    def said(self, message: str) -> None: ...
