"""What a record says of the machine and the person that made it, and how it is said less."""

from __future__ import annotations

import contextlib
import getpass
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossbench.records import Record

#: Absolute paths, of whatever system: not the slash within `suites/paper.yaml`.
_PATH = re.compile(r"(?<![\w.~/\\-])(?:~|[A-Za-z]:)?[/\\][^\s'\":;,=]+")
#: Of the provenance, what is told before it leaves.
TOLD = ("command", "suite", "cpu", "gpu", "os", "commit")


def leaves(records: Iterable[Record]) -> dict[str, Counter[str]]:
    """What records tell of where they were made: how often each value of TOLD occurs; and as `private` what looks like
    a path of a machine, a user's or a host's name, wherever it stands outside of the cell."""
    found: dict[str, Counter[str]] = {key: Counter() for key in (*TOLD, "private")}
    for record in records:
        facts = record.provenance
        hardware, git = _object(facts, "hardware"), _object(facts, "git")
        values = {"command": facts.get("command"), "suite": facts.get("suite"), "os": facts.get("os")}
        values |= {"cpu": hardware.get("cpu"), "gpu": _object(hardware, "gpu").get("name"), "commit": git.get("commit")}
        for key, value in values.items():
            if value:
                found[key][str(value)] += 1
        for text in _texts([facts, record.notes]):
            found["private"].update(_private(text))
    return found


def redacted(record: Record) -> Record:
    """The same record, of every absolute path only the last part, of users and hosts nothing; `-` stands for them. Its
    cell is untouched, and so is its id."""
    return replace(record, provenance=_changed(record.provenance), notes=_changed(record.notes))


def _changed(value: Any) -> Any:
    if isinstance(value, str):
        value = _PATH.sub(lambda match: re.split(r"[/\\]", match[0].rstrip("/\\"))[-1] or "-", value)
        for name in _names():
            value = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "-", value)
        return value
    if isinstance(value, dict):
        return {key: _changed(item) for key, item in value.items()}
    return [_changed(item) for item in value] if isinstance(value, list) else value


def _private(text: str) -> list[str]:
    found = [match[0] for match in _PATH.finditer(text)]
    return found + [name for name in _names() if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]


def _names() -> list[str]:
    """Of this user and this machine; `root` and `localhost` say nothing of anybody."""
    names = {platform.node(), Path.home().name}
    with contextlib.suppress(OSError, KeyError):  # a user without a name, as in containers
        names.add(getpass.getuser())
    return sorted(name for name in names if len(name) > 2 and name not in ("root", "localhost"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _object(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = facts.get(key)
    return value if isinstance(value, dict) else {}
