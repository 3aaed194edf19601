"""Reading record files into a table, in several processes where there are many.

The work is parsing, not the disk; so the processes share the paths.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lossbench import files
from lossbench.errors import RecordError
from lossbench.records import Record
from lossbench.runtable import RunTable, concatenate
from lossbench.scan import collector_paused
from lossbench.tabulate import tabulate

#: Files that keep a process busy for some times what it takes to start.
_SHARE = 4000
#: What an answer of such a process begins with.
_ANSWER = b"lossbench records\n"


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
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)
    workers = min(workers, len(paths) // _SHARE)
    if workers < 2 or not sys.executable:
        return _read(folder, paths)
    size = -(-len(paths) // workers)
    shares = [paths[start : start + size] for start in range(0, len(paths), size)]
    with ThreadPoolExecutor(len(shares)) as pool:
        parts = list(pool.map(lambda share: _elsewhere(folder, share), shares))
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


def _elsewhere(folder: Path, paths: Sequence[str]) -> tuple[RunTable, list[Unreadable]]:
    """`_read` in a process of its own. A fresh interpreter, not a fork: the caller may hold torch and its threads."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        # -P: nothing is imported from the current directory, which is the user's.
        [sys.executable, "-P", "-c", "from lossbench.readmany import serve; serve()"],
        input=pickle.dumps((folder, paths)),
        stdout=subprocess.PIPE,
        env=environment,
    )
    if done.returncode or not done.stdout.startswith(_ANSWER):  # killed, or something else spoke: do it here
        return _read(folder, paths)
    result: tuple[RunTable, list[Unreadable]] = pickle.loads(done.stdout[len(_ANSWER) :])
    return result


def serve() -> None:
    """Answer one request of `_elsewhere`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C is for the caller to tell of
    folder, paths = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(_ANSWER)
    pickle.dump(_read(folder, paths), sys.stdout.buffer, protocol=5)
