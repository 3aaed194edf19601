"""Where the time of a training step goes, without slowing it down.

On the CPU a phase is timed by the wall clock. On CUDA each boundary is an event in the stream, read only when a
step is far behind, so that timing never makes the host wait for the device.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import pairwise

import torch

PHASES = ("data", "forward", "loss", "backward", "optimizer", "log")
#: Phases that make up the cost of a step. Waiting for data depends on what else the machine does, and logging is
#: ours: both are shown beside it.
STEP = ("forward", "loss", "backward", "optimizer")
#: CUDA steps kept unread before their events are read: long done by then.
LAG = 16


class StepTimer:
    """Milliseconds per phase of every step.

    Call `start()`, then `mark(phase)` at the end of each phase (a phase may recur within a step, as with gradient
    accumulation), then `stop()`.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._rows: list[list[float]] = []
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []
        self._pending: deque[list[tuple[str, float | torch.cuda.Event]]] = deque()

    def _now(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def start(self) -> None:
        self._marks = [("", self._now())]

    def mark(self, phase: str) -> None:
        self._marks.append((phase, self._now()))

    def stop(self) -> None:
        self._pending.append(self._marks)
        if len(self._pending) > (LAG if self._cuda else 0):
            self._read()

    def _read(self) -> None:
        marks = self._pending.popleft()
        row = dict.fromkeys(PHASES, 0.0)
        for (_, before), (phase, after) in pairwise(marks):
            if isinstance(before, float) and isinstance(after, float):
                row[phase] += (after - before) * 1000
            elif isinstance(before, torch.cuda.Event) and isinstance(after, torch.cuda.Event):
                after.synchronize()
                row[phase] += before.elapsed_time(after)
        self._rows.append([row[phase] for phase in PHASES])

    def state(self) -> torch.Tensor:
        """(steps, phases) float32 milliseconds of all steps so far, for checkpoints."""
        while self._pending:
            self._read()
        return torch.tensor(self._rows, dtype=torch.float32).reshape(-1, len(PHASES))

    def load(self, state: torch.Tensor) -> None:
        self._rows = [[float(x) for x in row] for row in state]

    def summary(self) -> dict[str, float]:
        """Median milliseconds per phase, "total" = median of their sum over STEP. The first tenth (at most 20 steps) is
        warm-up and left out."""
        rows = self.state()
        if len(rows) == 0:
            return {}
        rows = rows[min(20, len(rows) // 10) :]
        medians = rows.median(dim=0).values
        summary = {phase: round(float(value), 3) for phase, value in zip(PHASES, medians, strict=True)}
        columns = [PHASES.index(phase) for phase in STEP]
        summary["total"] = round(float(rows[:, columns].sum(dim=1).median()), 3)
        return summary
