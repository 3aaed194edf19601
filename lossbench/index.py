"""The index: the table of a store's records in one file, so that a leaderboard need not parse them all again.

The JSON files stay the only truth. A call stats every file and parses those whose stamp differs from the index's (new,
edited, replaced); files that are gone are dropped. The index may be deleted at any time, and whatever is wrong with it
(damage, another version of the code that computes scores, a folder that cannot be written) means reading the files.

One file, replaced atomically and check-summed, and not a database: it works on network file systems, where locks do
not, readers never wait for writers, and the columns come out as arrays. Two processes may write at once; one wins.

A file that was written within the clock's tick of its reading could change once more and keep its stamp. Such stamps
are not kept (as in git's index): the file is read again next time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lossbench.readmany import Unreadable, read_many
from lossbench.runtable import Condition, RunTable, concatenate
from lossbench.scan import STAMP, Scan, scan

#: "checked": files that changed are read. "trusted": the index as it is, if there is one. "off": all files are read.
IndexUse = Literal["checked", "trusted", "off"]

#: With fewer records, reading them is as fast.
SMALLEST = 256
#: The coarsest clock of a file system in use, in ns (FAT; ext4 and NFS are far finer), and some more for clocks apart.
TICK_NS = 3_000_000_000
_MAGIC = b"lossbench index\n"
#: Rewriting the index costs more than parsing this share of all files again.
_FEW_SHARE = 0.001
_NUMBERS = {
    "condition": np.int32, "ids": np.uint64, "seeds": np.int64, "costs": np.float64, "scores": np.float64,
    "fine": np.float64,
}  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What an index holds: a table, the stamp of each of its files, and files that could not be read."""

    table: RunTable
    stamps: np.ndarray[Any, np.dtype[np.int64]]
    unreadable: list[str]


def read_table(
    folder: Path, cache: Path | None, use: IndexUse, found: Scan | None = None
) -> tuple[RunTable, list[Unreadable]]:
    """The table of all records below `folder`, in the order of their paths, and the files that could not be read.

    Args:
        cache: the folder for indexes; None: none is used.
        found: what `scan` would find, less what must not be read; by default all.
    """
    file = None if cache is None or use == "off" else index_file(folder, cache)
    known = _load(file, folder) if file is not None else None
    if known is not None and use == "trusted" and len(known.table) >= SMALLEST:
        # Bad files are not in the table: they must be complained of all the same.
        again, failed = read_many(folder, known.unreadable)
        return (concatenate(folder, [known.table, again]) if len(again) else known.table), failed
    started = time.time_ns()
    found = scan(folder) if found is None else found
    if len(found.paths) < SMALLEST:
        return read_many(folder, found.paths)
    table, unread, changed = _updated(folder, found, known)
    if file is not None and (known is None or changed > _FEW_SHARE * len(found.paths)):
        settled = found.stamps[:, :2].max(axis=1) < started - TICK_NS
        at = dict(zip(found.paths, range(len(found.paths)), strict=True))
        rows = np.array([at[path] for path in table.paths], dtype=np.int64)
        stamps = np.where(settled[:, None], found.stamps, 0)[rows]
        _save(file, Known(table, stamps, [bad.path for bad in unread]))
    return table, unread


def _updated(folder: Path, found: Scan, known: Known | None) -> tuple[RunTable, list[Unreadable], int]:
    """The table of the files found, what could not be read, and how many files differ from what is known."""
    if known is None or not len(known.table):
        table, unread = read_many(folder, found.paths)
        return table, unread, len(found.paths)
    if known.table.paths == found.paths:
        current = (known.stamps == found.stamps).all(axis=1)
        old = np.arange(len(found.paths))
    else:
        at = dict(zip(known.table.paths, range(len(known.table)), strict=True))
        old = np.array([at.get(path, -1) for path in found.paths], dtype=np.int64)
        current = (old >= 0) & (known.stamps[old] == found.stamps).all(axis=1)
    current &= found.stamps.any(axis=1)
    if current.all() and len(old) == len(known.table):
        return known.table, [], 0
    changed = np.flatnonzero(~current)
    fresh, unread = read_many(folder, [found.paths[place] for place in changed.tolist()])
    bad = {item.path for item in unread}
    # Rows of the known table, then those read now, brought into the order of the paths.
    kept = old[current]
    rows = np.full(len(found.paths), -1)
    rows[current] = kept
    read = [place for place in changed.tolist() if found.paths[place] not in bad]
    rows[read] = len(known.table) + np.arange(len(read))
    merged = concatenate(folder, [known.table, fresh]).take(rows[rows >= 0])
    return merged, unread, len(changed) + len(known.table) - len(kept)


# --- the file ---


def index_file(folder: Path, cache: Path) -> Path:
    """Where the index of the records below `folder` lies in a cache folder: nothing is written among the records."""
    name = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
    return cache / "leaderboard" / f"{name}.index"


def index_files(cache: Path) -> list[Path]:
    """Every index in a cache folder, and what a killed process left of one."""
    return sorted(file for pattern in ("*.index", ".*.index.*.tmp") for file in (cache / "leaderboard").glob(pattern))


@functools.cache
def _code() -> str:
    """Changes with everything that could change what is kept: an index of another one is not read."""
    here = Path(__file__).parent
    names = ("cells", "finescores", "metrics", "records", "runtable", "tabulate", "index")
    sources = [(here / f"{name}.py").read_bytes() for name in names]
    return hashlib.sha256(b"\0".join([*sources, np.__version__.encode()])).hexdigest()


def _save(file: Path, known: Known) -> None:
    """Atomic. A folder that cannot be written, or a full disk, only means that there is no index."""
    table = known.table
    counts = table.counts
    if not counts.size or int(counts.max()) < 2**31:
        counts = counts.astype(np.int32)
    arrays = {name: getattr(table, name) for name in _NUMBERS} | {"stamps": known.stamps, "counts": counts}
    sections = {name: np.ascontiguousarray(array).tobytes() for name, array in arrays.items()}
    sections |= {
        "conditions": "\0".join(condition.to_json() for condition in table.conditions).encode(),
        "paths": _joined(table.paths),
        "unreadable": _joined(known.unreadable),
    }
    header = {
        "code": _code(),
        "folder": str(table.folder.resolve()),
        "counts": str(counts.dtype),
        "sections": {name: [len(content), zlib.crc32(content)] for name, content in sections.items()},
    }
    text = json.dumps(header).encode()
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as out:
            out.write(_MAGIC + len(text).to_bytes(8, "little") + text)
            out.writelines(sections.values())
        os.replace(temporary, file)
    except OSError:
        _remove(temporary)
    except BaseException:  # a Ctrl-C leaves nothing behind
        _remove(temporary)
        raise


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def _load(file: Path, folder: Path) -> Known | None:
    """The index, or None when there is none that can be trusted."""
    try:
        sections, counts_type = _sections(file.read_bytes(), folder)
        numbers = {name: np.frombuffer(sections[name], dtype=kind) for name, kind in _NUMBERS.items()}
        paths = _split(sections["paths"])
        conditions = [Condition.from_json(text) for text in _split(sections["conditions"])]
        stamps = np.frombuffer(sections["stamps"], dtype=np.int64).reshape(len(paths), STAMP)
        counts = np.frombuffer(sections["counts"], dtype=counts_type)
        unreadable = _split(sections["unreadable"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    table = RunTable(
        folder=folder,
        paths=paths,
        conditions=conditions,
        condition=numbers["condition"],
        ids=numbers["ids"],
        seeds=numbers["seeds"],
        costs=numbers["costs"].reshape(len(paths), -1),
        scores=numbers["scores"].reshape(len(paths), -1),
        fine=numbers["fine"].reshape(len(paths), -1),
        counts=counts,
    )
    return Known(table, stamps, unreadable)


def _sections(content: bytes, folder: Path) -> tuple[dict[str, memoryview], np.dtype[Any]]:
    """The parts of an index file by name, and the type of the counts. Raises ValueError, KeyError or TypeError when
    it is damaged, or made by other code or for another folder."""
    start = len(_MAGIC) + 8
    size = int.from_bytes(content[len(_MAGIC) : start], "little")
    if not content.startswith(_MAGIC) or start + size > len(content):
        raise ValueError("not an index")
    header = json.loads(content[start : start + size])
    if header["code"] != _code() or header["folder"] != str(folder.resolve()):
        raise ValueError("an index of another version or folder")
    view, at = memoryview(content), start + size
    sections = {}
    for name, (length, checksum) in header["sections"].items():
        sections[name] = view[at : at + length]
        at += length
        if zlib.crc32(sections[name]) != checksum:
            raise ValueError("damaged")
    return sections, np.dtype(header["counts"])


def _joined(paths: Sequence[str]) -> bytes:
    return "\0".join(paths).encode(errors="surrogateescape")


def _split(text: memoryview) -> list[str]:
    return bytes(text).decode(errors="surrogateescape").split("\0") if text else []
