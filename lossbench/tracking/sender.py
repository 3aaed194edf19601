"""Sends records beside a run, in a thread: no cell waits for a tracker, and none is touched by its failure."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lossbench import files
from lossbench.cells import Cell
from lossbench.errors import LossbenchError
from lossbench.execution.base import Job, Outcome
from lossbench.store import Store
from lossbench.tracking import Tracker
from lossbench.tracking.story import story_of

if TYPE_CHECKING:
    from lossbench.execution.suite_run import ObserverContext


#: Seconds after which `close` leaves a tracker that gets no cell done.
LIMIT = 90.0


class Sender:
    """What was sent is marked by a file, `tracked/NAME/sent/PLACE/ID` in the results folder, which holds the hash of
    the record: what was sent to another place, or of an earlier record of the cell, does not count.

    A tracker that fails is left alone until the next run, with one warning.

    Args:
        say: told of failures, from the thread.
    """

    def __init__(self, store: Store, trackers: Sequence[Tracker], say: Callable[[str], None]) -> None:
        self._store, self._trackers, self._say = store, list(trackers), say
        self._failed: set[int] = set()
        self._waiting: queue.SimpleQueue[Cell | None] = queue.SimpleQueue()
        self._added = self._done = self.sent = 0
        self._left = False
        self._now: Tracker | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._work, name="trackers", daemon=True).start()

    @property
    def left(self) -> int:
        """Cells that have not been looked at yet."""
        return self._added - self._done

    def add(self, cells: Iterable[Cell]) -> None:
        """Cells to send, if they have a record that was not sent before."""
        for cell in cells:
            self._added += 1
            self._waiting.put(cell)

    def close(self, limit: float = LIMIT) -> bool:
        """Wait until all is sent, but no longer than `limit` seconds for any cell, nor after Ctrl-C. What is left is
        for the next run; false then, with a warning."""
        self._waiting.put(None)
        before = None
        with contextlib.suppress(KeyboardInterrupt):
            while (self._done, self.sent) != before:
                before = self._done, self.sent
                if self._ended.wait(limit):  # not Thread.join: an interrupted one takes the thread for ended
                    return True
        self._left = True
        who = f"{self._now.name} ({self._now.place})" if self._now else "the trackers"
        self._say(f"not waiting any longer for {who}; cells left for the next run of the suite: {self.left}")
        return False

    def _work(self) -> None:
        try:
            while (cell := self._waiting.get()) is not None:
                for number, tracker in enumerate(self._trackers):
                    if number not in self._failed and not self._left:
                        self._now = tracker
                        self._send(number, tracker, cell)
                self._done += 1
        finally:
            self._ended.set()

    def _send(self, number: int, tracker: Tracker, cell: Cell) -> None:
        mark = marks(self._store.root, tracker) / cell.id
        try:
            path = self._store.record_path(cell)
            if not path.is_file():
                return
            digest = hashlib.sha256(files.read(path)).hexdigest()[:16]
            if mark.is_file() and mark.read_text() == digest:
                return
            record = self._store.load(cell)
            if record is None:
                return
            tracker.send(story_of(record, digest))
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text(digest)
            self.sent += 1
        except LossbenchError as error:  # the record's, not the tracker's
            self._say(f"{tracker.name}: {cell.name} was not sent: {error.message}")
        except Exception as error:  # a client raises what it likes; the cell has its record all the same
            self._failed.add(number)
            first, *_ = str(error).strip().splitlines() or [""]
            what = f"{type(error).__name__}: {first if len(first) <= 200 else first[:200] + '...'}"
            self._say(
                f"{tracker.name} ({tracker.place}): sending failed ({what}); it is left out for now, "
                "and the next run of the suite sends what is missing"
            )


def marks(results: Path, tracker: Tracker) -> Path:
    """The folder of the marks of what a tracker was sent. It depends on the tracker's place, but on that of the results
    not: they may be moved with all that lies in them."""
    place = tracker.place.replace(str(results.absolute()), ".")
    return results / "tracked" / tracker.name / "sent" / hashlib.sha256(place.encode()).hexdigest()[:12]


class Tracking:
    """An observer of a run that passes finished cells on to a sender, and everything to another observer."""

    def __init__(self, inner: ObserverContext, sender: Sender) -> None:
        self._inner, self._sender = inner, sender

    def __enter__(self) -> Tracking:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    def started(self, job: Job) -> None:
        self._inner.started(job)

    def progressed(self, job: Job, event: dict[str, Any]) -> None:
        self._inner.progressed(job, event)

    def finished(self, outcome: Outcome) -> None:
        self._inner.finished(outcome)
        self._sender.add([outcome.job.cell])

    def said(self, message: str) -> None:
        self._inner.said(message)
