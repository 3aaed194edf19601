"""Which records were found in order before, by the stamps of their files: so that verifying again takes seconds.

One file in the cache, beside the leaderboard's index and as easily thrown away. Records with which anything was wrong
are not in it; rules over several records are never remembered.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import lossbench
from lossbench import files
from lossbench.index import TICK_NS, index_file
from lossbench.verification.facts import ROW, Facts

#: What decides whether a single record is in order.
_SOURCES = ("cells", "foreign", "metrics", "protocol", "recordaudit", "records", "sidecar", "store", "__init__")


def load(folder: Path, cache: Path) -> tuple[Facts, NDArray[np.int64]] | None:
    """Records that were in order and the stamps of their files (see tree.py); None when nothing can be trusted."""
    try:
        content = _file(folder, cache).read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if archive["code"].tobytes() != _code(folder):
                return None
            paths, texts = (_split(archive[name].tobytes()) for name in ("paths", "texts"))
            facts, stamps = Facts(paths, archive["rows"].astype(ROW), texts), archive["stamps"].astype(np.int64)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    return (facts, stamps) if len(facts.rows) == len(stamps) == len(facts) else None


def save(folder: Path, cache: Path, facts: Facts, stamps: NDArray[np.int64], started_ns: int) -> None:
    """Remember records that are in order. A disk that cannot be written only means that nothing is remembered.

    Args:
        started_ns: when reading began; files written within a tick of the clock before could change once more and keep
            their stamp, and are not kept.
    """
    if not len(stamps):
        return
    times = stamps.reshape(len(stamps), -1, 4)[:, :, :2]
    kept = np.flatnonzero(times.max(axis=(1, 2)) < started_ns - TICK_NS)
    facts, stamps = facts.take(kept), stamps[kept]
    buffer = io.BytesIO()
    members = {"paths": _joined(facts.paths), "texts": _joined(facts.texts), "code": _code(folder)}
    arrays = {name: np.frombuffer(content, np.uint8) for name, content in members.items()}
    np.savez(buffer, allow_pickle=False, rows=facts.rows, stamps=stamps, **arrays)
    file = _file(folder, cache)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        files.replace(file, buffer.getvalue())


def _file(folder: Path, cache: Path) -> Path:
    return index_file(folder, cache).with_suffix(".verified.index")


@functools.cache
def _sources() -> bytes:
    here = Path(lossbench.__file__).parent
    paths = [*(here / f"{name}.py" for name in _SOURCES), *sorted((here / "verification").glob("*.py"))]
    return b"\0".join([*(path.read_bytes() for path in paths), np.__version__.encode()])


def _code(folder: Path) -> bytes:
    """Changes with the rules and with the folder."""
    return hashlib.sha256(_sources() + os.fsencode(folder.resolve())).digest()


def _joined(texts: list[str]) -> bytes:
    return "\0".join(texts).encode(errors="surrogateescape")


def _split(content: bytes) -> list[str]:
    return content.decode(errors="surrogateescape").split("\0") if content else []
