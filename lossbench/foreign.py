"""Records of other results folders, which anybody may have made: read so that nothing in them can do harm.

Nothing is followed out of the folder, waited for, executed, or believed without its bytes; what a record says of its
own names becomes text, never a path. A record is taken only if all readers of ours can read it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.cells import canonical_again
from lossbench.errors import ConfigError, RecordError
from lossbench.recordaudit import check_counts, check_scored
from lossbench.records import Record
from lossbench.sidecar import MOST_BYTES, parse_sidecar

#: Bytes of a record file: a confusion matrix of 4000 classes.
_MOST_JSON = 2**26
#: Folders below `records`; there are two.
_DEEPEST = 8
#: Pixels of a class or a matrix: more than ever will be, and sums of them are exact.
_MOST_PIXELS = 2**53
#: Control characters other than line ends and tabs; and halves of characters, which cannot be printed.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Foreign:
    """A record whose numbers can be.

    Attributes:
        text, sidecar: the bytes of its files as they were checked; None where there are no per-image counts.
    """

    path: Path
    record: Record
    text: bytes
    sidecar: bytes | None
    counts: NDArray[np.int32] | None


@dataclass(frozen=True)
class Skipped:
    """A file that holds no record that could be taken, and why."""

    path: Path
    reason: str


def records_folder(results: Path) -> Path:
    """Where the records of a results folder lie. Raises ConfigError when it is none."""
    folder = results / "records"
    try:
        mode = folder.lstat().st_mode
    except FileNotFoundError:
        mode = 0
    except OSError as error:  # a folder that may not be entered; a file for a folder; a name too long
        hint = "name a results folder that you may read"
        raise ConfigError(f"{folder} cannot be read ({error.strerror or error})", hint=hint) from None
    if stat.S_ISLNK(mode):
        raise ConfigError(f"{folder} is a symbolic link", hint="name the folder that it leads to")
    if not stat.S_ISDIR(mode):
        what = f"{results}: no such folder" if not results.exists() else f"no records in {results}"
        raise ConfigError(what, hint="name a results folder: the one that holds the folder `records`")
    return folder


def read_folder(folder: Path) -> Iterator[Foreign | Skipped]:
    """Every visible *.json below a folder, in the order of their paths."""
    for found in _files(folder, 0):
        yield found if isinstance(found, Skipped) else read_foreign(found)


def _files(folder: Path, depth: int) -> Iterator[Path | Skipped]:
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped(folder, f"cannot be read ({error.strerror or error})")
        return
    for entry in found:
        path = folder / entry.name
        try:
            is_folder, is_link = entry.is_dir(follow_symlinks=False), entry.is_symlink()
            leads_to_folder = is_link and entry.is_dir()
        except OSError as error:
            yield Skipped(path, f"cannot be read ({error.strerror or error})")
            continue
        if is_link and (entry.name.endswith(".json") or leads_to_folder):
            yield Skipped(path, "a symbolic link is not followed")
        elif is_folder and depth == _DEEPEST:
            yield Skipped(path, "too deep a folder for records")
        elif is_folder:
            yield from _files(path, depth + 1)
        elif entry.name.endswith(".json"):
            yield path


def read_foreign(path: Path) -> Foreign | Skipped:
    """The record in a file, with its sidecar, or why it cannot be taken."""
    try:
        text = read_regular(path, _MOST_JSON)
        record = Record.from_json(text)
        check_possible(record)
        try:
            sidecar = read_regular(path.with_suffix(".npz"), MOST_BYTES)
        except FileNotFoundError:
            return Foreign(path, record, text, None, None)
        counts, names = parse_sidecar(sidecar)
        check_sidecar(record, counts, names)
    except RecordError as error:
        return Skipped(path, error.message + (f" ({error.hint})" if error.hint else ""))
    except OSError as error:
        return Skipped(path, f"cannot be read ({error.strerror or error})")
    return Foreign(path, record, text, sidecar, counts)


def read_regular(path: Path | str, most: int) -> bytes:
    """A regular file of at most so many bytes; never waits, as opening a pipe would. Raises OSError, RecordError."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise RecordError(f"{os.path.basename(path)} is not a regular file")
        content = file.read(most + 1) if facts.st_size <= most else b""
        if facts.st_size > most or len(content) > most:
            raise RecordError(f"{os.path.basename(path)} is larger than any record: {facts.st_size} bytes")
        return content


def check_sidecar(record: Record, counts: NDArray[Any], names: Sequence[str]) -> None:
    """Raises RecordError when per-image counts cannot be those of the record's confusion matrix."""
    wrong = next((check for check in check_counts("", record, counts, names) if not check.holds), None)
    if wrong is not None:
        said = (
            wrong.hint or f"{wrong.subject}: {wrong.score} {wrong.printed}, must be {wrong.relation} {wrong.expected}"
        )
        raise RecordError(f"its per-image counts cannot be: {said}")


def check_possible(record: Record, *, text: bytes = b"\\") -> None:
    """Args:
        text: the JSON it was read from: without escapes, it holds no character that its bytes do not show.

    Raises RecordError for numbers that cannot be, and for what would stop those who read our records."""
    # In floating point: sums of integers wrap around.
    if float(record.confusion.sum(dtype=np.float64)) > _MOST_PIXELS:
        raise RecordError("its confusion matrix counts more pixels than there can be")
    if any(not 0 <= pixels <= _MOST_PIXELS for pixels in record.train_pixels):
        raise RecordError("its training pixels cannot be")
    if record.status != "diverged" and not check_scored("", record).holds:
        raise RecordError("it scored no pixel, and says that all went well")
    reason = _protocol_fault(canonical_again(record.cell["protocol"]))
    if reason:
        raise RecordError(f"its protocol is none that this lossbench knows: {reason}")
    harmless = text.isascii() and b"\\" not in text and b"\x7f" not in text
    if not harmless and _COMMANDS.search("".join(_texts(record))):
        raise RecordError("it holds characters that would command a terminal")
    provenance = record.provenance
    hardware = provenance.get("hardware")
    objects = [hardware, *(provenance.get(key) for key in ("packages", "code", "data"))]
    if isinstance(hardware, dict):
        objects.append(hardware.get("gpu"))
    if not all(item is None or isinstance(item, dict) for item in objects):
        raise RecordError("its provenance is malformed")
    if not all(_are_numbers(values) for values in record.curve.values()):
        raise RecordError("its curve is malformed")
    if not all(isinstance(note, str) for note in record.notes):
        raise RecordError("its notes are malformed")


def _texts(record: Record) -> Iterator[str]:
    """All that is ever shown of it."""
    waiting = [record.cell, record.labels, record.class_names, record.provenance, record.notes, record.costs]
    while waiting:
        value: Any = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int | float) for value in values)


@lru_cache(maxsize=1024)
def _protocol_fault(text: str) -> str | None:
    from lossbench.protocol import Protocol

    try:
        Protocol.model_validate_json(text)
    except ValueError as error:  # pydantic's: a title, then the place, then the fault
        return ": ".join(line.strip() for line in str(error).splitlines()[1:3])
    return None
