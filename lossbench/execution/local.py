"""Local executor: a fresh process per cell, forked from a warm server that has torch imported already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import ModuleType

from lossbench.execution.base import Handle, Place, Request
from lossbench.execution.capacity import Capacity
from lossbench.execution.oom import machine_oom_kills
from lossbench.execution.spec import EXIT_LOST, EXIT_OUT_OF_MEMORY, FORK_SERVER, Spec
from lossbench.execution.worker import forked_main
from lossbench.processes import kill_group

#: Seconds that a killed worker takes to be gone, at the most: the kernel takes its memory back first.
_DYING_S = 1.0


class LocalHandle:
    """A running worker process, the leader of a process group of its own."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self._orphan = _pid_file(process.pid)
        self._looked, self._kills = time.monotonic(), machine_oom_kills()
        self._kills_before = self._kills

    def running(self) -> bool:
        return True

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs. What it started and left behind is ended with it.

        Its exit code comes through the fork server. When that is dead the worker lives on, and is watched to its end.
        """
        code = self._process.exitcode
        if code is None or (code == EXIT_LOST and self._alive()):
            self._look()
            return None
        self._kill_group()
        if self._orphan is not None:
            os.close(self._orphan)
            self._orphan = None
        if code == -signal.SIGKILL and machine_oom_kills() > self._kills_before:
            return EXIT_OUT_OF_MEMORY
        return code

    def _look(self) -> None:
        """Remember what the kernel had counted a moment ago, in all control groups: a loss may have put its worker into
        another. A kill since then is most likely that of this worker; it is counted when the worker begins to die."""
        now = time.monotonic()
        if now - self._looked > _DYING_S:
            self._looked, self._kills_before, self._kills = now, self._kills, machine_oom_kills()

    def _alive(self) -> bool:
        return self._orphan is not None and not connection.wait([self._orphan], 0)

    def stop(self) -> None:
        """Ask it to checkpoint and leave. Not by SIGTERM: a shutdown sends that to workers as well, and a second one
        ends them."""
        self._signal(signal.SIGUSR2)

    def terminate(self) -> None:
        """The second SIGTERM ends a worker, if it hears any."""
        for _ in range(2):
            self._signal(signal.SIGTERM)
            time.sleep(0.02)  # two that arrive together are one

    def kill(self) -> None:
        """End it and everything it started."""
        self._kill_group()
        self._signal(signal.SIGKILL)

    def _kill_group(self) -> None:
        if self._process.pid is not None:
            kill_group(self._process.pid)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None and (self._process.exitcode is None or self._alive()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


class LocalExecutor:
    """Runs workers on this machine, as many at once as it has places for.

    Args:
        capacity: what there is.
        preload: modules the server imports beside the usual ones (the plugins of the suite).
        target: what a worker does with the path of its spec; another one is for tests.
        warm: False: the server imports `preload` alone; for targets that need no torch.
    """

    poll_s = 0.1

    def __init__(
        self,
        capacity: Capacity,
        preload: Sequence[str] = (),
        target: Callable[[str], None] = forked_main,
        *,
        warm: bool = True,
    ) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        before, after = (["lossbench.execution.preload"], ["lossbench.execution.preloaded"]) if warm else ([], [])
        self._context.set_forkserver_preload([*before, *preload, *after])
        self._capacity, self._target = capacity, target
        self._running: list[ForkServerProcess] = []

    def warm_up(self) -> None:
        """Start the server, if it is not running: it imports in the background while the data is prepared.

        It starts with SIGINT blocked: a Ctrl-C at the terminal reaches it too, and is the scheduler's business.
        """
        resource_tracker.ensure_running()  # it unblocks SIGINT when it starts, so it goes first
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.environ[FORK_SERVER] = "1"
        try:
            forkserver.ensure_running()
        finally:
            del os.environ[FORK_SERVER]
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def refuses(self, request: Request) -> str | None:
        return self._capacity.refuses(request)

    def reserve(self, request: Request) -> Place | None:
        return self._capacity.reserve(request)

    def release(self, place: Place) -> None:
        self._capacity.release(place)

    def submit(self, specs: Sequence[tuple[Path, Request]]) -> list[Handle | Exception]:
        return [self._start(path) for path, _ in specs]

    def _start(self, spec: Path) -> LocalHandle | Exception:
        process = self._context.Process(target=self._target, args=(str(spec),), daemon=False)
        try:
            self.warm_up()  # it may have been killed
            with _no_main_module():
                process.start()
        except (OSError, EOFError) as error:  # no more processes, a fork server that died
            return error
        self._running.append(process)
        return LocalHandle(process)

    def adopt(self, spec: Spec, request: Request) -> None:
        """Never: a worker on this machine leaves when its scheduler does."""

    def close(self) -> None:
        """The fork server leaves with this process."""

    def wait(self, seconds: float) -> None:
        """Return as soon as a worker has ended, at the latest after `seconds`."""
        ended = connection.wait([process.sentinel for process in self._running], seconds)
        if not self._running:
            time.sleep(seconds)
        self._running = [process for process in self._running if process.sentinel not in ended]


def _pid_file(pid: int | None) -> int | None:
    """A descriptor that is ready when the process has ended, whoever its parent is; None where there are none."""
    if pid is None or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # ended already
        return None


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide this process's main script: every child would run it again (spawn.get_preparation_data) to no use."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
