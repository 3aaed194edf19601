"""Who is at work on a cell: a claim in its run folder, which holds across machines and needs no lock of any system.

A claim is a file `claim.N` that says which process made it. The process with the highest number holds the cell as long
as it lives: it touches its file every BEAT_S seconds. A claim that was not touched for STALE_S seconds is stale, one of
a process of this very machine as soon as that process is gone. Who wants the cell then makes `claim.N+1`, which just
one process can. Numbers are never used twice: to let go is to date one's file back to 1970, not to remove it.

All times are the file server's, by which it dates every file that is touched, so no machine's clock has to be right.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from lossbench import files
from lossbench.errors import SetupError
from lossbench.processes import Process, this_process

#: Seconds between signs of life, and without one until a claim is taken over: a short outage of the server is outlived.
BEAT_S = 10.0
STALE_S = 60.0
_NAME = re.compile(r"claim\.([0-9]{1,9})\Z")
_UNKNOWN = Process("another machine", "", 0, "")


class Busy(Exception):
    """Another process holds the cell."""

    def __init__(self, holder: Process) -> None:
        super().__init__(f"held by process {holder.pid} on {holder.host}")
        self.holder = holder


@dataclass(frozen=True)
class _Claim:
    number: int
    process: Process
    touched: float

    def holds(self, now: Callable[[], float]) -> bool:
        """Args: now: the server's time, asked only where it matters."""
        if not self.touched or math.isinf(self.touched):
            return bool(self.touched)
        lives = self.process.lives()
        return now() - self.touched <= STALE_S if lives is None else lives


def holder(folder: Path) -> Process | None:
    """Who is at work in a run folder; None when nobody is. Leaves no trace."""
    claim = _highest(folder)
    return claim.process if claim is not None and claim.holds(lambda: _server_time(folder)) else None


class Claim:
    """Holds the cell of a run folder while it is open as a context; raises Busy when another process does.

    Args:
        process: who takes it; another one than this process is for tests.
    """

    def __init__(self, folder: Path, process: Process | None = None) -> None:
        self._folder, self._process = folder, process or this_process()
        self._number = 0
        self._lost = False
        self._released = threading.Event()

    @property
    def lost(self) -> bool:
        """Whether another process took over, for this one gave no sign of life for long: it was stopped, its machine
        slept, the server could not be reached. Known at the latest BEAT_S after it goes on."""
        return self._lost

    def __enter__(self) -> Claim:
        """Raises Busy, and SetupError when the folder cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _own_file(self._folder, json.dumps(asdict(self._process))) as mine:
                self._take(mine)
        except FileNotFoundError:  # swept away by who holds the cell since a moment ago
            raise self._busy() from None
        except OSError as error:
            raise SetupError(f"cannot write {self._folder}: {error.strerror or error}") from error
        threading.Thread(target=self._beat, daemon=True, name="claim").start()
        return self

    def _take(self, mine: Path) -> None:
        now = _touched(mine)
        before = _highest(self._folder)
        if before is not None and before.holds(lambda: now):
            raise Busy(before.process)
        self._number = before.number + 1 if before else 1
        # Who comes so late that its number is not the highest leaves its claim: it holds nothing, and goes with the
        # next sweep.
        if not files.link(mine, self._path) or self._is_overtaken():
            raise self._busy()
        for number, path in _claims(self._folder):
            if number < self._number:
                path.unlink(missing_ok=True)

    def _busy(self) -> Busy:
        claim = _highest(self._folder)
        return Busy(claim.process if claim else _UNKNOWN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        with contextlib.suppress(OSError):  # removed by who took over; or the server is away: then it goes stale
            os.utime(self._path, (0, 0))

    @property
    def _path(self) -> Path:
        return self._folder / f"claim.{self._number}"

    def _is_overtaken(self) -> bool:
        return max((number for number, _ in _claims(self._folder)), default=0) > self._number

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            try:
                if self._is_overtaken():
                    raise FileNotFoundError
                os.utime(self._path)
            except FileNotFoundError:
                self._lost = True
                return
            except OSError:  # the server cannot be reached: perhaps it can the next time
                continue


def _claims(folder: Path) -> list[tuple[int, Path]]:
    """Numbers and files of the claims in a folder. It is read from the server anew after one's own change in it."""
    return [(int(match[1]), folder / name) for name in os.listdir(folder) if (match := _NAME.match(name))]


def _highest(folder: Path) -> _Claim | None:
    """The claim that counts; None when there is none."""
    for _ in range(5):  # a higher one may come while it is read
        try:
            number, path = max(_claims(folder))
        except (ValueError, FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # another user's folder, a server that cannot be reached: what is not known is not free
            return _Claim(0, _UNKNOWN, math.inf)
        try:
            # Opened, not just asked for its time: only then a network's file system asks the server.
            with open(path, "rb") as file:
                return _Claim(number, _process(file.read(4096)), os.fstat(file.fileno()).st_mtime)
        except FileNotFoundError:
            continue
        except OSError:  # another user's, or replaced on the server: what is not known is not stale
            with contextlib.suppress(OSError):
                return _Claim(number, _UNKNOWN, path.stat().st_mtime)
    return None


def _process(text: bytes) -> Process:
    try:
        data = json.loads(text)
        return Process(str(data["host"]), str(data["boot"]), int(data["pid"]), str(data["started"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return _UNKNOWN  # judged by its age alone


@contextlib.contextmanager
def _own_file(folder: Path, text: str) -> Iterator[Path]:
    path = folder / f"claim.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        path.write_text(text, encoding="utf-8")
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _touched(file: Path) -> float:
    """The server's time: that of a file of one's own, touched now."""
    os.utime(file)
    return file.stat().st_mtime


#: Server's time minus this process's monotonic one, by file system.
_offsets: dict[int, float] = {}


def _server_time(folder: Path) -> float:
    """The server's time, for who only looks: asked once. Where nothing can be written, this machine's."""
    device = folder.stat().st_dev
    if device not in _offsets:
        try:
            with _own_file(folder, "") as mine:
                now = _touched(mine)
        except OSError:
            now = time.time()
        _offsets[device] = now - time.monotonic()
    return _offsets[device] + time.monotonic()
