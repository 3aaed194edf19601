"""The one entry of a worker process: `python -m lossbench.execution.worker SPEC`, or a fork of a warm parent.

Exit codes: see spec.py; error.json says why a cell failed. The record in the store is the truth.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from lossbench.errors import LossbenchError, SetupError, disk_error
from lossbench.execution import devices, limits
from lossbench.execution.claim import Busy, Claim
from lossbench.execution.guard import Guard
from lossbench.execution.spec import (
    CHECKPOINTS,
    EXIT_BUSY,
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_LOST,
    EXIT_OUT_OF_MEMORY,
    EXIT_UNWRITABLE,
    Spec,
    failure,
    write_json,
)
from lossbench.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lossbench.execution.cellrun import CellRun
    from lossbench.records import Record

#: What a worker writes and may leave half written.
_UNFINISHED = ("checkpoint.*.tmp", "error.*.tmp", "model.*.tmp")
#: Signals that mean: checkpoint and leave. SIGUSR2 is what Slurm's pre-emption sends.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class StopFlag:
    """Set by the first stop signal; asked by training between steps. A second SIGTERM ends the process."""

    def __init__(self) -> None:
        self._set = False
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._set = True
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self._set


class Running(Protocol):
    """A cell at work, as `CellRun` is."""

    def run(self) -> tuple[Record, NDArray[np.int32], list[str]] | None:
        """Record, per-image counts, image names; None when it was stopped and has left a checkpoint."""

    def keep(self) -> None:
        """Leave a checkpoint of what is trained to the end, if it is."""


#: Makes a cell's run of its spec and of what to ask whether to stop.
Make = Callable[[Spec, Callable[[], bool]], Running]


def run_spec(path: Path, make: Make | None = None) -> int:
    """Run the cell of a spec file and return the exit code. Its output goes to log.txt in the run folder.

    Args:
        make: another run than `CellRun`, for tests.
    """
    should_stop = StopFlag()
    try:
        spec = Spec.read(path)
        store = Store(spec.results)
        with Guard(spec.run_dir / "log.txt") as guard:
            if multiprocessing.parent_process() is not None:
                threading.Thread(target=_follow_scheduler, daemon=True).start()
            with Claim(spec.run_dir) as claim:
                if store.has(spec.parse_cell()):
                    return EXIT_DONE
                with guard.capture():
                    code = _run(spec, store, make or _CellOnItsDevices, should_stop, claim)
                return EXIT_BUSY if claim.lost and code != EXIT_DONE else code
    except Busy:
        return EXIT_BUSY
    except (ValueError, TypeError, KeyError):  # no spec, or one of another version
        return EXIT_FAILED
    except (OSError, SetupError) as error:  # not even the claim: a full or read-only disk, a folder that is gone
        cause = error if isinstance(error, OSError) else error.__cause__
        shortage = isinstance(cause, OSError) and cause.errno in (errno.EAGAIN, errno.ENOMEM)
        return EXIT_LOST if shortage else EXIT_UNWRITABLE


class ClaimLost(Exception):
    """Another process has taken the cell over: its folder is not ours any more, not even for a checkpoint."""


def _asked_to_stop(should_stop: Callable[[], bool], claim: Claim) -> bool:
    if claim.lost:
        raise ClaimLost
    return should_stop()


class _CellOnItsDevices:
    """`CellRun`, on all devices of its spec."""

    def __init__(self, spec: Spec, should_stop: Callable[[], bool]) -> None:
        self._spec, self._should_stop = spec, should_stop
        self._cell_run: CellRun | None = None

    def run(self) -> tuple[Record, NDArray[np.int32], list[str]] | None:
        from lossbench.execution.cellrun import CellRun
        from lossbench.execution.ranks import team

        with team(self._spec) as ranks:
            self._cell_run = CellRun(self._spec, should_stop=self._should_stop, ranks=ranks)
            return self._cell_run.run()

    def keep(self) -> None:
        if self._cell_run is not None:
            self._cell_run.keep()


def _run(spec: Spec, store: Store, make: Make, should_stop: StopFlag, claim: Claim) -> int:
    faulthandler.enable()
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} pid {os.getpid()}", flush=True)
    error_file = spec.run_dir / "error.json"
    # Of a worker that was killed while it wrote; what others write at this moment has other names.
    _remove(error_file, *(file for kind in _UNFINISHED for file in spec.run_dir.glob(kind)))
    limits.killed_first()
    cell_run = None
    try:
        spec = replace(spec, devices=devices.resolve(spec.devices))
        if spec.memory_gb is not None and set(spec.devices) == {"cpu"}:
            limits.limit_memory(spec.memory_gb)
        cell_run = make(spec, partial(_asked_to_stop, should_stop, claim))
        outcome = cell_run.run()
        if outcome is None:
            return EXIT_CHECKPOINTED
        record, per_image, names = outcome
        store.write_first(spec.parse_cell(), record, per_image, names)  # a merge may have been faster: theirs stays
    except BaseException as error:
        # The one place where anything a cell may raise ends: it is reported, and no other cell is touched.
        limits.lift_memory_limit()
        traceback.print_exc()
        if cell_run is not None and not claim.lost:
            with contextlib.suppress(Exception):
                cell_run.keep()
        try:
            if not claim.lost:  # else the folder is another worker's now
                write_json(error_file, describe_error(error))
        except OSError:
            return EXIT_UNWRITABLE
        return EXIT_OUT_OF_MEMORY if is_out_of_memory(error) else getattr(error, "worker_exit", EXIT_FAILED)
    if not claim.lost:
        _remove(*(spec.run_dir / name for name in (*CHECKPOINTS, "events.jsonl")))
    return EXIT_DONE


def _remove(*files: Path) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def describe_error(error: BaseException) -> dict[str, Any]:
    """What the scheduler and `lossbench status` show of a failure."""
    error = disk_error(error) or error
    if isinstance(error, LossbenchError):
        return failure(type(error).__name__, error.message, error.hint, error.exit_code)
    text = str(error).strip().splitlines()
    message = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    where = _users_line(error)
    if is_out_of_memory(error):
        hint = "raise protocol.accumulate (same effective batch) or lower batch_size or crop"
        return failure("OutOfMemory", f"out of memory: {message}", hint)
    return failure("Exception", message + where)


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's, Python's and the CPU allocator's ways of saying so."""
    text = str(error)
    return (
        type(error).__name__ == "OutOfMemoryError"
        or isinstance(error, MemoryError)
        or "can't allocate memory" in text
        or "not enough memory" in text
        or (limits.limited() and "can't start new thread" in text)  # no room for its stack
    )


def _users_line(error: BaseException) -> str:
    """` (my_loss.py:12)`: the innermost frame outside installed packages, where the mistake most likely is."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def forked_main(spec: str, make: Make | None = None) -> None:
    """Target of the fork server's children."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see LocalExecutor.warm_up
    os.setsid()  # own process group: the terminal's Ctrl-C is the scheduler's business, and kill takes all children
    sys.exit(run_spec(Path(spec), make))


def _follow_scheduler() -> None:
    """When the scheduler is gone, checkpoint and leave: nobody would see this cell end."""
    scheduler = multiprocessing.parent_process()
    if scheduler is not None:
        scheduler.join()
        os.kill(os.getpid(), signal.SIGUSR2)


if __name__ == "__main__":
    sys.exit(run_spec(Path(sys.argv[1])))
