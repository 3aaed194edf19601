"""Reading record files into a table, in several processes where there are many.

The work is parsing, not the disk; so the processes share the paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossbench import files
from lossbench.errors import RecordError
from lossbench.records import Record
from lossbench.runtable import RunTable, concatenate
from lossbench.scan import collector_paused
from lossbench.spread import spread
from lossbench.tabulate import tabulate

#: Files that keep a process busy for some times what it takes to start.
_SHARE = 4000


@dataclass(frozen=True)
class Unreadable:
    """A file that holds no record: its path and the line about it."""

    path: str
    warning: str


class UnreadableRecordError(RecordError):
    """The disk did not give the record: nothing is known of it, and it must not be overwritten."""


def read_record(path: Path | str) -> Record:
    """The record in a file. Raises RecordError (NewerSchemaError) that names it."""
    try:
        return Record.from_json(files.read(path))
    except OSError as error:
        raise UnreadableRecordError(f"{path}: {error.strerror or error}") from None
    except RecordError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from None


def read_many(folder: Path, paths: Sequence[str]) -> tuple[RunTable, list[Unreadable]]:
    """The table of the records in the files `folder / path`, in their order, and the files that hold none."""
    parts = spread("lossbench.readmany:_read", folder, paths, _SHARE)
    if len(parts) == 1:
        found: tuple[RunTable, list[Unreadable]] = parts[0]
        return found
    return concatenate(folder, [table for table, _ in parts]), [bad for _, failed in parts for bad in failed]


def _read(folder: Path, paths: Sequence[str]) -> tuple[RunTable, list[Unreadable]]:
    failed: list[Unreadable] = []

    def records() -> Iterator[tuple[str, Record]]:
        start = str(folder) + os.sep
        for path in paths:
            try:
                yield path, read_record(start + path)
            except RecordError as error:
                line = f"skipped {error.message}" + (f" ({error.hint})" if error.hint else "")
                failed.append(Unreadable(path, line))

    with collector_paused():
        return tabulate(folder, records()), failed
