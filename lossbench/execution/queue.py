"""Cells that wait, in the order in which they should start."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from lossbench.execution.base import Job, Request

#: How many cells behind a large one may start before it, while the room it needs is not free yet.
PASSES = 8


class Queue:
    """Seeds outermost, so that a half-done suite compares all losses on the same seeds. Within a seed large requests go
    first, and among equal ones what took longest with another seed, the unknown before it: no long cell is left to run
    alone at the end.

    A cell for which there is no room lets smaller ones pass, but only a few: then they wait until it has started.
    """

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._requests: Counter[Request] = Counter()
        self._kinds: Counter[tuple[str, ...]] = Counter()
        self._seconds: dict[tuple[str, ...], float] = {}
        self._first: set[Job] = set()
        self._sorted = True
        self._blocked: set[Request] = set()
        self._head: Job | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, *, first: bool = False) -> None:
        """Queue a job; `first`: before all others (it ran already, and goes on)."""
        self._jobs.append(job)
        self._requests[job.request] += 1
        self._kinds[kind(job)] += 1
        if first:
            self._first.add(job)
        self._sorted = False

    def remove(self, job: Job) -> None:
        self._jobs.remove(job)
        self._requests[job.request] -= 1
        self._kinds[kind(job)] -= 1
        self._first.discard(job)
        if self._head is not None and job is not self._head:
            self._head.passed_over += 1

    def clear(self) -> list[Job]:
        """Take all out."""
        jobs = self._jobs
        self.__init__()  # type: ignore[misc]
        return jobs

    def took(self, job: Job, seconds: float) -> None:
        """Tell how long a cell took: what waits of its kind is ordered by it."""
        new = kind(job) not in self._seconds
        self._seconds.setdefault(kind(job), seconds)
        if new and self._kinds[kind(job)]:
            self._sorted = False

    def candidates(self, now: float) -> Iterator[Job]:
        """The jobs to try, in order. `remove` those that start; say `blocked` of those for which there is no room:
        nothing that asks for the same is tried again."""
        if not self._sorted:
            self._jobs.sort(key=self._order)
            self._sorted = True
        self._blocked.clear()
        self._head = None
        place = 0
        while place < len(self._jobs) and self._some_may_fit():
            job = self._jobs[place]
            if job.request not in self._blocked and job.not_before <= now:
                yield job
            if place < len(self._jobs) and self._jobs[place] is job:  # it was not taken
                place += 1

    def _some_may_fit(self) -> bool:
        if self._head is not None and self._head.passed_over >= PASSES:
            return False
        return any(number and request not in self._blocked for request, number in self._requests.items())

    def blocked(self, job: Job) -> None:
        self._blocked.add(job.request)
        if self._head is None:
            self._head = job

    def _order(self, job: Job) -> tuple[bool, int, float, float]:
        request = job.request
        size = (request.gpus or 0) * 1e6 + (request.cpus or 0)
        return job not in self._first, job.cell.seed, -size, -self._seconds.get(kind(job), math.inf)


def kind(job: Job) -> tuple[str, ...]:
    """What a cell has in common with those of other seeds."""
    return tuple(component.label for component in job.cell.components.values())
