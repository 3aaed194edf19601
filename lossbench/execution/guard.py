"""The guard: a small process beside each worker. It keeps the worker's log, and ends a worker that has lost its
scheduler and does not leave.

It is a process because a thread could do neither: a loss may hold the interpreter for ever, and may take the process
down in the middle of a line. It is no child that a kill of the worker's process group reaches, so that the last lines
of a crash arrive; it ends when everybody who could still write to the log has.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path

from lossbench.processes import kill_group

#: Bytes an attempt may leave in the log: the first half of them and the last.
LOG_BYTES = 32 << 20
#: Seconds a worker has to checkpoint and leave when its scheduler is gone.
ORPHAN_GRACE_S = 60.0
#: Seconds a worker that ends waits for its last lines to be written.
_DRAIN_S = 1.0


class BoundedLog:
    """A file that keeps the first and the last half of `limit` bytes of what is written to it, and never takes more
    room than that: behind its first half it is a ring. Appends to a file that is there, or sets it aside as
    `log.old.txt` when that is full. Never raises OSError: what cannot be written is left out."""

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path, self._half = path, limit // 2
        self._file: int | None = None
        self._start = self._kept = self._lost = 0

    def write(self, data: bytes) -> None:
        try:
            file = self._opened()
            while data:
                place, room = self._place()
                done = os.pwrite(file, data[:room], place)
                self._kept += done
                data = data[done:]
        except OSError:
            self._lost += len(data)

    def close(self) -> None:
        """Put the ring in order, with a line in front of it that says how much is left out."""
        file, half = self._file, self._half
        if file is None:
            return
        with contextlib.suppress(OSError):
            if self._kept > 2 * half:
                oldest, room = self._place()
                ring = self._start + half
                tail = os.pread(file, room, oldest) + os.pread(file, oldest - ring, ring)
                line = f"\n[lossbench: {self._kept - 2 * half + self._lost} bytes left out here]\n".encode()
                os.pwrite(file, line + tail[len(line) :], ring)
            elif self._lost:
                self.write(f"\n[lossbench: {self._lost} bytes could not be written]\n".encode())
        os.close(file)

    def _opened(self) -> int:
        if self._file is None:
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_size >= 2 * self._half:
                    os.replace(self._path, self._path.with_name("log.old.txt"))
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._start = os.fstat(self._file).st_size
        return self._file

    def _place(self) -> tuple[int, int]:
        """Where the next byte goes, and how many fit there in one piece."""
        if self._kept < self._half:
            return self._start + self._kept, self._half - self._kept
        behind = (self._kept - self._half) % self._half
        return self._start + self._half + behind, self._half - behind


class Guard:
    """Of this process, until the context ends. To be made before it has a lock or threads: a fork shares them.

    Args:
        log: the log file; opened when there is something to write.
        limit: see LOG_BYTES.
    """

    def __init__(self, log: Path, *, limit: int = LOG_BYTES) -> None:
        scheduler = multiprocessing.parent_process()
        read_end, self._write_end = os.pipe()
        worker = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                sentinel = scheduler.sentinel if scheduler else None
                _keep_only({read_end} if sentinel is None else {read_end, sentinel})
                _watch(read_end, sentinel, BoundedLog(log, limit), worker)
            finally:
                os._exit(0)
        os.close(read_end)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *exception: object) -> None:
        """Let it write the rest and go. It stays for as long as what this process started can write to the log."""
        os.close(self._write_end)
        deadline = time.monotonic() + _DRAIN_S
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self._pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.001)

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Send this process's stdout and stderr, down to the file descriptors, to the log."""
        saved = [(os.dup(number), number) for number in (1, 2)]
        sys.stdout.flush()
        sys.stderr.flush()
        for _, number in saved:
            os.dup2(self._write_end, number)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            for copy, number in saved:
                os.dup2(copy, number)
                os.close(copy)


def _keep_only(kept: set[int]) -> None:
    """Become a process of its own that holds nothing of the worker's but these: no terminal, no lock, no pipe."""
    os.setsid()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)  # a cluster's signals go to all processes of a job
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    lowest = 3
    for fd in sorted(kept):
        os.closerange(lowest, fd)
        lowest = fd + 1
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))


def _watch(output: int, scheduler: int | None, log: BoundedLog, worker: int) -> None:
    """Until nobody can write to `output`. `scheduler` becomes ready when the scheduler is gone."""
    orphaned: float | None = None
    while True:
        waited = [output] if scheduler is None or orphaned is not None else [output, scheduler]
        ready = connection.wait(waited, None if orphaned is None else 1.0)
        now = time.monotonic()
        if scheduler in ready:
            orphaned = now
        if orphaned is not None and now - orphaned > ORPHAN_GRACE_S and os.getppid() == worker:
            kill_group(worker)
        if output in ready:
            data = os.read(output, 1 << 16)
            if not data:
                break
            log.write(data)
    log.close()
