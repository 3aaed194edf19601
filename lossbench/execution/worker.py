"""The one entry of a worker process: `python -m lossbench.execution.worker SPEC`, or a fork of a warm parent.

Exit codes (see spec.py): done, failed (error.json says why), checkpointed, busy. The record in the store is the truth.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from lossbench.errors import LossbenchError
from lossbench.execution.spec import (
    EXIT_BUSY,
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_OUT_OF_MEMORY,
    Spec,
    write_json,
)
from lossbench.store import Store

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


def run_spec(path: Path) -> int:
    """Run the cell of a spec file and return the exit code. Its output goes to log.txt in the run folder."""
    should_stop = StopFlag()
    spec = Spec.read(path)
    store = Store(spec.results)
    try:
        # A lock of the operating system's: it goes when the process goes, however it dies.
        # Not at the first try: `lossbench status` looks at the lock by taking it for an instant.
        with FileLock(spec.run_dir / "lock", timeout=1):
            if store.has(spec.parse_cell()):
                return EXIT_DONE
            for leftover in spec.run_dir.glob("*.tmp"):  # of a worker that was killed while it wrote
                leftover.unlink(missing_ok=True)
            with _logged(spec.run_dir / "log.txt"):
                return _run(spec, store, should_stop)
    except Timeout:
        return EXIT_BUSY


def _run(spec: Spec, store: Store, should_stop: StopFlag) -> int:
    from lossbench.execution.cellrun import CellRun
    from lossbench.execution.ranks import team

    error_file = spec.run_dir / "error.json"
    error_file.unlink(missing_ok=True)
    try:
        with team(spec) as ranks:
            outcome = CellRun(spec, should_stop=should_stop, ranks=ranks).run()
        if outcome is None:
            return EXIT_CHECKPOINTED
        record, per_image, names = outcome
        store.write(spec.parse_cell(), record, per_image, names)
    except BaseException as error:
        # The one place where anything a cell may raise ends: it is reported, and no other cell is touched.
        traceback.print_exc()
        write_json(error_file, describe_error(error))
        return EXIT_OUT_OF_MEMORY if is_out_of_memory(error) else getattr(error, "worker_exit", EXIT_FAILED)
    for leftover in ("checkpoint.pt", "events.jsonl"):
        (spec.run_dir / leftover).unlink(missing_ok=True)
    return EXIT_DONE


def describe_error(error: BaseException) -> dict[str, object]:
    """What the scheduler and `lossbench status` show of a failure."""
    when = time.time()
    if isinstance(error, LossbenchError):
        return {
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
            "when": when,
        }
    text = str(error).strip().splitlines()
    message = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    where = _users_line(error)
    if is_out_of_memory(error):
        return {
            "kind": "OutOfMemory",
            "message": f"out of memory: {message}",
            "hint": "raise protocol.accumulate (same effective batch) or lower batch_size or crop",
            "exit_code": 1,
            "when": when,
        }
    return {"kind": "Exception", "message": message + where, "hint": None, "exit_code": 1, "when": when}


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's, Python's and the CPU allocator's ways of saying so."""
    text = str(error)
    return (
        type(error).__name__ == "OutOfMemoryError"
        or isinstance(error, MemoryError)
        or "can't allocate memory" in text
        or "not enough memory" in text
    )


def _users_line(error: BaseException) -> str:
    """` (my_loss.py:12)`: the innermost frame outside installed packages, where the mistake most likely is."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


@contextlib.contextmanager
def _logged(log: Path) -> Iterator[None]:
    """Send this process's stdout and stderr, down to the file descriptors, to the cell's log."""
    saved = [(os.dup(number), number) for number in (1, 2)]
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab", buffering=0) as file:
        for _, number in saved:
            os.dup2(file.fileno(), number)
    faulthandler.enable()
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} pid {os.getpid()}", flush=True)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for copy, number in saved:
            os.dup2(copy, number)
            os.close(copy)


def forked_main(spec: str) -> None:
    """Target of the fork server's children."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see LocalExecutor.warm_up
    os.setsid()  # own process group: the terminal's Ctrl-C is the scheduler's business, and kill takes all children
    threading.Thread(target=_follow_scheduler, daemon=True).start()
    sys.exit(run_spec(Path(spec)))


def _follow_scheduler() -> None:
    """When the scheduler is gone, checkpoint and leave: nobody would see this cell end."""
    scheduler = multiprocessing.parent_process()
    if scheduler is not None:
        scheduler.join()
        os.kill(os.getpid(), signal.SIGUSR2)


if __name__ == "__main__":
    sys.exit(run_spec(Path(sys.argv[1])))
