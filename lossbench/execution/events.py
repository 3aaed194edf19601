"""The run folder's event stream: how a worker, wherever it runs, tells its progress. One JSON object a line.

{"t": unix time, "event": "start" | "step" | "eval" | "done" | "failed" | "checkpoint", ...}
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class EventWriter:
    """Appends events; those sent with `throttle=True` at most every `interval` seconds. One that cannot be written (a
    full disk) is lost, and nothing else."""

    def __init__(self, path: Path, interval: float = 0.5) -> None:
        self._path, self._interval, self._last = path, interval, -math.inf

    def send(self, event: str, *, throttle: bool = False, **values: Any) -> None:
        now = time.monotonic()
        if throttle and now - self._last < self._interval:
            return
        self._last = now
        line = json.dumps({"t": round(time.time(), 3), "event": event, **values})
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


class EventReader:
    """Follows an event file: every call of `new` gives the events since the last."""

    def __init__(self, path: Path, *, offset: int = 0) -> None:
        self._path, self._offset = path, offset

    def new(self) -> Iterator[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:  # none yet, or a share that went away
            return
        complete = data.rfind(b"\n") + 1  # a line may be half written
        self._offset += complete
        for line in data[:complete].splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # a line cut by a crash, gone on by the next attempt
                continue
            if isinstance(event, dict):
                yield event


def last_events(path: Path, tail: int = 8192) -> list[dict[str, Any]]:
    """The whole events in the last `tail` bytes of a file, newest first; none when it cannot be read."""
    try:
        reader = EventReader(path, offset=max(0, path.stat().st_size - tail))
        return list(reader.new())[::-1]
    except OSError:
        return []
