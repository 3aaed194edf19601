"""What Ray runs of us: the task that starts a worker and waits for it. Sent to the nodes by value, so nothing but the
standard library is imported here."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

#: What the supervisor is told, see there.
STOP, KILL = b"s", b"k"
#: spec.EXIT_LOST.
_LOST = 255


def run_worker(spec: str, folder: str, environment: Mapping[str, str]) -> int:
    """Run a worker on a spec file, under a supervisor, and return its exit code.

    A first cancellation asks it to checkpoint and leave, a second kills it.

    Args:
        folder: where the scheduler runs; relative paths in the spec start there.
        environment: variables of the scheduler's.

    Raises FileNotFoundError when this node does not see the spec.
    """
    if not Path(spec).is_file():
        raise FileNotFoundError(
            f"node {socket.gethostname()} does not see {spec}: "
            "the results must lie in a folder that all nodes share under the same path"
        )
    python = [sys.executable, "-m"]
    worker = [*python, "lossbench.execution.worker", spec]
    supervisor = subprocess.Popen(
        [*python, "lossbench.execution.supervisor", str(Path(spec).with_name("log.txt")), *worker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder if Path(folder).is_dir() else None,
        env={**os.environ, **environment},
    )
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    told = STOP
    while True:
        try:
            # Python notices a cancellation between two looks, not during one.
            if select.select([supervisor.stdout], [], [], 0.2)[0]:
                supervisor.wait()
                return int(supervisor.stdout.read() or _LOST)
        except KeyboardInterrupt:
            with contextlib.suppress(BrokenPipeError):
                os.write(supervisor.stdin.fileno(), told)
            told = KILL
