"""Sends records beside a run, in a thread: no cell waits for a tracker, and none is touched by its failure."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lossbench.cells import Cell
from lossbench.errors import LossbenchError
from lossbench.execution.base import Job, Outcome
from lossbench.store import Store
from lossbench.tracking import Tracker
from lossbench.tracking.story import story_of

if TYPE_CHECKING:
    from lossbench.execution.suite_run import ObserverContext


class Sender:
    """What was sent is marked by an empty file, `tracked/NAME/sent/ID` in the results folder, so that it is sent once.

    A tracker that fails is left alone until the next run, with one warning.

    Args:
        say: told of failures, from the thread.
    """

    def __init__(self, store: Store, trackers: Sequence[Tracker], say: Callable[[str], None]) -> None:
        self._store, self._trackers, self._say = store, list(trackers), say
        self._failed: set[str] = set()
        self._waiting: queue.SimpleQueue[Cell | None] = queue.SimpleQueue()
        self.sent = 0
        self._thread = threading.Thread(target=self._work, name="trackers", daemon=True)
        self._thread.start()

    def add(self, cells: Iterable[Cell]) -> None:
        """Cells to send, if they have a record and were not sent before."""
        for cell in cells:
            self._waiting.put(cell)

    def close(self) -> None:
        """Wait until all is sent."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (cell := self._waiting.get()) is not None:
            for tracker in self._trackers:
                if tracker.name not in self._failed:
                    self._send(tracker, cell)

    def _send(self, tracker: Tracker, cell: Cell) -> None:
        mark = marks(self._store.root, tracker.name) / cell.id
        try:
            if mark.exists():
                return
            record = self._store.load(cell)
            if record is None:
                return
            tracker.send(story_of(record))
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            self.sent += 1
        except LossbenchError as error:  # the record's, not the tracker's
            self._say(f"{tracker.name}: {cell.name} was not sent: {error.message}")
        except Exception as error:  # a client raises what it likes; the cell has its record all the same
            self._failed.add(tracker.name)
            text = str(error).strip().splitlines()
            what = f"{type(error).__name__}: {text[0] if text else ''}"
            self._say(
                f"{tracker.name}: sending failed ({what}); it is left out for now, "
                "and the next run of the suite sends what is missing"
            )


def marks(results: Path, name: str) -> Path:
    """Where it is marked what a tracker was sent."""
    return results / "tracked" / name / "sent"


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
