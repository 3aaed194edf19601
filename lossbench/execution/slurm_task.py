"""What runs on a cluster's node: one array task, a worker process for each cell that is packed into it.

It answers Slurm's signals itself. submitit would tell a pre-emption from a time limit by the clock, and takes every
signal for a time limit when that is under ten minutes; here both mean the same: the workers write a checkpoint, and
the task goes back into the queue. Only cells that were asked to leave do not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from submitit.helpers import Checkpointable

from lossbench.execution import slurm_queue
from lossbench.execution.oom import oom_kills
from lossbench.execution.spec import (
    EXIT_BUSY,
    EXIT_CANCELLED,
    EXIT_CHECKPOINTED,
    EXIT_FAILED,
    EXIT_OUT_OF_MEMORY,
    timeout,
    write_json,
)
from lossbench.execution.submission import Submission, read_submission
from lossbench.processes import kill_group

#: Seconds between looks at the workers.
_TICK_S = 0.3
#: The scheduler, where one watches, sees to a cell's time limit; this much later the task does.
_SPARE_S = 45.0
#: Seconds from being asked to checkpoint to being killed: of a cell that is late, and of any other.
_GRACE_S = 30.0
_LEAVE_S = 60.0
_PR_SET_PDEATHSIG = 1


class SlurmTask(Checkpointable):
    """All that is pickled: names, and a number.

    Args:
        folder: of the submission.
        specs: spec files of its cells.
        minutes: hard limit of each.
        worker: the module that runs a spec.
    """

    def __init__(self, folder: str, specs: Sequence[str], minutes: float | None, worker: str) -> None:
        self.folder, self.specs, self.minutes, self.worker = folder, tuple(specs), minutes, worker

    def __call__(self) -> None:
        specs = [Path(spec) for spec in self.specs]
        cells = tuple(spec.parent.name for spec in specs)
        submission = Submission(specs[0].parents[2], Path(self.folder).name, own_job(), cells)
        run_task(submission, specs, self.minutes, self.worker)


def own_job() -> str:
    """The name of the job this process belongs to."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]


class _Worker:
    def __init__(self, spec: Path, module: str) -> None:
        self.run_dir, self.cell = spec.parent, spec.parent.name
        self.late: float | None = None
        self._asked: float | None = None
        self._hung = False
        self._started, self._oom_kills = time.monotonic(), oom_kills()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(spec)],
            start_new_session=True,
            preexec_fn=_leave_with_parent,
        )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is None:
            return None
        self.kill()  # what it started and left behind
        # It was asked before it could listen, or never listened: its last checkpoint is what it goes on from.
        if code in (-signal.SIGUSR2, -signal.SIGTERM) or (self._hung and code == -signal.SIGKILL):
            return EXIT_CHECKPOINTED
        return EXIT_OUT_OF_MEMORY if code == -signal.SIGKILL and oom_kills() > self._oom_kills else code

    def stop(self) -> None:
        # Never SIGTERM: Slurm may have sent it one already, and a second ends it.
        if self._asked is None:
            self._asked = time.monotonic()
        self._process.send_signal(signal.SIGUSR2)

    def end_if_hung(self) -> None:
        """Kill it when it was asked long ago. What hangs in C code hears of no signal."""
        if self._asked is not None and time.monotonic() - self._asked > _LEAVE_S:
            self._hung = True
            self.kill()

    def kill(self) -> None:
        kill_group(self._process.pid)


def run_task(submission: Submission, specs: Sequence[Path], minutes: float | None, module: str) -> None:
    """Run the cells that have not ended, side by side, until each has ended or wants to go on."""
    signalled: list[int] = []
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, lambda number, frame: signalled.append(number))
    workers = []
    for spec in specs:
        cell = spec.parent.name
        if submission.exit_code(cell) is not None:
            continue
        if submission.asked(cell):  # while it was queued
            _note_end(submission, cell, EXIT_CANCELLED)
            continue
        workers.append(_Worker(spec, module))
    if workers and any(read_submission(worker.run_dir) is None for worker in workers):
        with contextlib.suppress(OSError):  # a full disk ends no cell that does not need it
            submission.write()  # whoever submitted it was killed before he could
    going_on = []
    passed_on = 0
    while workers:
        time.sleep(_TICK_S)
        signals = len(signalled)
        for worker in list(workers):
            code = worker.poll()
            if code is None:
                asked = submission.asked(worker.cell)
                if asked == "kill":
                    worker.kill()
                elif asked or signals > passed_on:
                    worker.stop()
                _limit(worker, minutes)
                worker.end_if_hung()
                continue
            workers.remove(worker)
            # A cell that another holds may be free when the task is back: a dead node's claim outlives it for a while.
            back = code in (EXIT_CHECKPOINTED, EXIT_BUSY)
            if back and not worker.late and not submission.asked(worker.cell):
                going_on.append((worker.cell, code))
            else:
                _note_end(submission, worker.cell, _told(submission, worker, code, minutes))
        passed_on = signals
    if going_on and not slurm_queue.requeue(submission.job):
        for cell, code in going_on:
            _note_end(submission, cell, code)


def _note_end(submission: Submission, cell: str, code: int) -> None:
    """On a full disk only in the job's own log: the scheduler then takes the cell for lost, its neighbours go on."""
    try:
        submission.ended(cell, code)
    except OSError as error:
        print(f"{cell} ended with exit code {code}, which cannot be noted: {error}", file=sys.stderr, flush=True)


def _limit(worker: _Worker, minutes: float | None) -> None:
    if minutes is None or worker.seconds < minutes * 60 + _SPARE_S:
        return
    if worker.late is None:
        worker.late = worker.seconds
        worker.stop()
    elif worker.seconds > worker.late + _GRACE_S:
        worker.kill()


def _told(submission: Submission, worker: _Worker, code: int, minutes: float | None) -> int:
    """What to say of a worker that has ended."""
    left = code in (EXIT_CHECKPOINTED, EXIT_BUSY, -signal.SIGKILL)
    if left and worker.late is not None and minutes is not None:
        with contextlib.suppress(OSError):
            write_json(worker.run_dir / "error.json", timeout(minutes))
        return EXIT_FAILED
    return EXIT_CANCELLED if left and submission.asked(worker.cell) else code


def _leave_with_parent() -> None:
    """In the worker, before its program starts: when the task dies, it is to checkpoint and leave. Nothing else would
    tell it where Slurm does not confine a job's processes."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR2)
