"""A small process between a worker and whoever started it on some machine:
`python -m lossbench.execution.supervisor LOG COMMAND...`.

It speaks through its pipes. On stdin it is told `s` (ask the worker to checkpoint and leave) or `k` (kill it and all it
started); the end of stdin means that whoever held it is gone, and is a `s` with a time limit. On stdout it writes the
worker's exit code, negative for a signal.

It is a process, and not a thread of the worker, because a loss may hold the interpreter for ever. It is nobody's child:
a cluster's agent kills its children when it leaves, and the worker must have time to write a checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lossbench.execution.oom import oom_kills
from lossbench.execution.raytask import KILL
from lossbench.execution.spec import EXIT_CHECKPOINTED, EXIT_OUT_OF_MEMORY
from lossbench.processes import kill_group

#: Seconds a worker has to checkpoint and leave when nobody is there any more to see it end.
ORPHAN_GRACE_S = 30.0
#: Seconds between looks at the worker.
_POLL_S = 0.1


def supervise(log: Path, command: Sequence[str]) -> int:
    """Run a worker to its end and return its exit code. What it says before it keeps its log itself goes there too."""
    kills = oom_kills()
    with log.open("ab") as file:
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    stdin: list[int] = [0]
    deadline: float | None = None
    while worker.poll() is None:
        ready, _, _ = select.select(stdin, [], [], _POLL_S)
        told = os.read(0, 64) if ready else None
        if told == b"":
            stdin, deadline = [], time.monotonic() + ORPHAN_GRACE_S
        if told is not None and KILL not in told:
            worker.send_signal(signal.SIGUSR2)
        elif told is not None or (deadline is not None and time.monotonic() > deadline):
            kill_group(worker.pid)
    kill_group(worker.pid)  # what it started and left behind
    if worker.returncode == -signal.SIGUSR2:  # it was asked to leave before it could listen
        return EXIT_CHECKPOINTED
    if worker.returncode == -signal.SIGKILL and oom_kills() > kills:
        return EXIT_OUT_OF_MEMORY
    return worker.returncode


def main(log: str, *command: str) -> None:
    """Leave whoever called, and supervise."""
    if os.fork():
        os._exit(0)
    os.setsid()
    code = supervise(Path(log), command)
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{code}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
