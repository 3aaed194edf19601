"""One record file and its per-image counts under every rule that needs no other record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import RecordError
from lossbench.foreign import check_possible, check_sidecar, read_regular
from lossbench.records import Record
from lossbench.scan import collector_paused
from lossbench.sidecar import parse_sidecar
from lossbench.store import Store
from lossbench.verification.facts import Collector, Facts
from lossbench.verification.problems import Problem
from lossbench.verification.values import check_values

#: Bytes of a record and of its per-image counts, as files: some times those of 150 classes and 5000 images.
MOST_JSON, MOST_SIDECAR = 2**22, 2**24


def verify_files(results: str, paths: Sequence[str]) -> tuple[Facts, list[Problem]]:
    """The records in `results / records / path`: what is wrong, and the facts of those that can be compared."""
    facts, now = Collector(), datetime.now(UTC)
    problems: list[Problem] = []
    store = Store(Path(results))
    with collector_paused():
        for path in paths:
            problems += verify_file(store, path, facts, now)
    return facts.facts(), problems


def verify_file(store: Store, path: str, facts: Collector, now: datetime) -> Iterator[Problem]:
    """What is wrong with one record; its facts are added to `facts` if it can be read."""
    shown, file = f"records/{path}", f"{store.records_dir}/{path}"
    try:
        text = read_regular(file, MOST_JSON)
    except (OSError, RecordError) as error:
        yield Problem("file", shown, _said(error))
        return
    try:
        data = _parse(text)
        record = Record.from_data(data)
    except RecordError as error:
        wrong_id = "is not the hash of its cell" in error.message
        yield Problem("id" if wrong_id else "schema", shown, _said(error))
        return
    try:
        check_possible(record, text=text)
    except RecordError as error:
        yield Problem("values", shown, _said(error))
        return
    # A rule that meets what nobody foresaw must not stop the others, nor the run: then the record is no record.
    try:
        for rule, message in check_values(record, data, now):
            yield Problem(rule, shown, message)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        yield Problem("schema", shown, f"malformed record: {type(error).__name__}: {str(error)[:80]}")
        return
    expected = str(store.path_of(record))[len(str(store.records_dir)) + 1 :].replace("\\", "/")
    if path != expected:
        yield Problem("place", shown, f"holds the record of {expected}")
    counts: NDArray[np.int32] | None = None
    names: list[str] = []
    try:
        counts, names = _sidecar(file.removesuffix(".json") + ".npz", record)
    except (OSError, RecordError) as error:
        yield Problem("counts", shown, _said(error))
    facts.add(path, record, counts, names)


def _sidecar(file: str, record: Record) -> tuple[NDArray[np.int32], list[str]]:
    """Raises OSError, RecordError."""
    try:
        content = read_regular(file, MOST_SIDECAR)
    except FileNotFoundError:
        raise RecordError("no per-image counts (.npz) beside it") from None
    counts, names = parse_sidecar(content, alone=True)
    check_sidecar(record, counts, names)
    if len(set(names)) < len(names):
        raise RecordError("its per-image counts name an image twice")
    if not all(name.isprintable() for name in names):
        raise RecordError("its image names hold characters that would command a terminal")
    return counts, names


def _parse(text: bytes) -> Any:
    """JSON as lossbench writes it: UTF-8, no NaN, no member twice. Raises RecordError."""
    try:
        return _DECODER.decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not valid JSON ({str(error)[:120]})") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_no_constant)


def _said(error: OSError | RecordError) -> str:
    if isinstance(error, RecordError):
        return error.message + (f" ({error.hint})" if error.hint else "")
    return f"cannot be read ({error.strerror or error})"
