"""Seeing which files code opens, and making it believe that one has changed: without touching any."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

_listeners: list[set[Path]] = []


@contextmanager
def opened_files() -> Iterator[set[Path]]:
    """The files that Python opens within, by any thread. What a C library opens by itself is not seen."""
    _install()
    heard: set[Path] = set()
    _listeners.append(heard)
    try:
        yield heard
    finally:
        _listeners[:] = [listener for listener in _listeners if listener is not heard]


@cache
def _install() -> None:
    """An audit hook stays for the life of the process: it does nothing while nobody listens."""

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and _listeners and isinstance(arguments[0], str | os.PathLike):
            for listener in _listeners:
                listener.add(Path(os.path.abspath(arguments[0])))

    sys.addaudithook(hear)


@contextmanager
def believed_changed(file: Path) -> Iterator[None]:
    """The file seems to be a byte longer and a second younger."""
    real, changed = os.stat, os.path.abspath(file)

    def stat(path: Any, *arguments: Any, **keywords: Any) -> Any:
        found = real(path, *arguments, **keywords)
        if not isinstance(path, str | os.PathLike) or os.path.abspath(path) != changed:
            return found
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        fields |= {"st_size": found.st_size + 1, "st_mtime": found.st_mtime + 1}
        fields["st_mtime_ns"] = found.st_mtime_ns + 1_000_000_000
        return mock.Mock(spec_set=[*fields], **fields)

    with mock.patch("os.stat", stat):
        yield
