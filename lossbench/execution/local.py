"""Local executor: a fresh process per cell, forked from a warm server that has torch imported already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import ModuleType

from lossbench.execution.spec import FORK_SERVER
from lossbench.execution.worker import forked_main


class LocalHandle:
    """A running worker process."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def stop(self) -> None:
        """Ask it to checkpoint and leave."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything it started."""
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None and self._process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


class LocalExecutor:
    """Runs up to `slots` workers at once on this machine.

    Args:
        devices: one slot each, e.g. ["cuda:0", "cuda:1"] or ["cpu", "cpu"].
        preload: modules the server imports beside the usual ones (the plugins of the suite).
    """

    def __init__(self, devices: Sequence[str], preload: Sequence[str] = ()) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["lossbench.execution.preload", *preload, "lossbench.execution.preloaded"])
        self._free = list(devices)
        self._running: list[ForkServerProcess] = []
        self.slots = len(devices)

    def warm_up(self) -> None:
        """Start the server now: it imports in the background while the data is prepared.

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

    def take_device(self) -> str | None:
        """A free device, or None."""
        return self._free.pop(0) if self._free else None

    def give_back(self, device: str) -> None:
        self._free.append(device)

    def submit(self, spec: Path) -> LocalHandle:
        process = self._context.Process(target=forked_main, args=(str(spec),), daemon=False)
        with _no_main_module():
            process.start()
        self._running.append(process)
        return LocalHandle(process)

    def wait(self, seconds: float) -> None:
        """Return as soon as a worker has ended, at the latest after `seconds`."""
        ended = connection.wait([process.sentinel for process in self._running], seconds)
        if not self._running:
            time.sleep(seconds)
        self._running = [process for process in self._running if process.sentinel not in ended]


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide this process's main script: every child would run it again (spawn.get_preparation_data) to no use."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
