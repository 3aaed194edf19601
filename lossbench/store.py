"""The store: records as files under one root. A cell is done if and only if its record is here.

    root/records/<dataset>/<backbone>/<loss>-s<seed>-<id>.json    the record
    root/records/<dataset>/<backbone>/<loss>-s<seed>-<id>.npz     per-image counts (n_images, C, 3) int32, image names
    root/runs/<id>/                                               run folder: log, checkpoint, error (git-ignored)

Writes are atomic and ordered (sidecar first, JSON last): a JSON file that exists is complete, and a reader at any
moment sees the old record or the new one. Names are derived from the cell's identity alone and sanitised.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench import files
from lossbench.cells import Cell
from lossbench.errors import UNWRITABLE_HINT, ConfigError, RecordError, SetupError, UnknownNameError
from lossbench.index import IndexUse, read_table
from lossbench.readmany import UnreadableRecordError, read_record
from lossbench.records import NewerSchemaError, Record
from lossbench.runtable import RunTable
from lossbench.scan import json_files, walk_order
from lossbench.sidecar import read_sidecar, sidecar_bytes


@dataclass(frozen=True)
class StoredRecord:
    """A record and where its JSON file lies."""

    record: Record
    path: Path

    @cached_property
    def per_image(self) -> NDArray[np.int32] | None:
        """TP, FP, FN (n_images, C, 3) of the sidecar, read on first use; None when there is none to trust."""
        try:
            return read_sidecar(self.path.with_suffix(".npz"), self.record)[0]
        except RecordError:
            return None


class Store:
    """Records under `root` (the results directory). Touches the disk only when asked something.

    Args:
        root: results directory; created on the first write.
        cache: folder that may hold an index of the records (see index.py); None: the files are read each time.
    """

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        self.root, self.cache = Path(root), cache

    @property
    def records_dir(self) -> Path:
        return self.root / "records"

    def run_dir(self, cell_id: str) -> Path:
        """The run folder of a cell; not created here."""
        return self.root / "runs" / _safe(cell_id)

    def record_path(self, cell: Cell) -> Path:
        """Where the JSON record of a cell lies, whether or not it is there yet."""
        return self._path(cell.dataset.name, cell.backbone.name, cell.loss.name, cell.seed, cell.id)

    def path_of(self, record: Record) -> Path:
        """Where a record belongs, by nothing but what it is of."""
        dataset, backbone, loss = (record.cell[kind]["name"] for kind in ("dataset", "backbone", "loss"))
        return self._path(dataset, backbone, loss, record.seed, record.id)

    def _path(self, dataset: str, backbone: str, loss: str, seed: int, cell_id: str) -> Path:
        return self.records_dir / _safe(dataset) / _safe(backbone) / f"{_safe(loss)}-s{int(seed)}-{cell_id}.json"

    # --- reading ---

    def has(self, cell: Cell) -> bool:
        """Whether the cell is done. A truncated or invalid file is not (it will be replaced); one that must not be
        replaced is: of a newer schema, or a file that the disk does not give now."""
        try:
            return self.load(cell) is not None
        except (NewerSchemaError, UnreadableRecordError, OSError):
            return True
        except RecordError:
            return False

    def load(self, cell: Cell) -> Record | None:
        """The record of a cell, None when there is none. Raises RecordError when its file cannot be read."""
        path = self.record_path(cell)
        if not path.is_file():
            return None
        record = read_record(path)
        if record.id != cell.id:
            raise RecordError(f"{path}: holds the record of another cell ({record.id})")
        return record

    def read_all(self) -> tuple[list[StoredRecord], list[str]]:
        """All records, in the order of their paths, and one line for each file that had to be skipped."""
        found: dict[str, StoredRecord] = {}
        warnings = []
        for path in json_files(self.records_dir):
            try:
                record = read_record(path)
            except RecordError as error:
                warnings.append(f"skipped {error.message}" + (f" ({error.hint})" if error.hint else ""))
                continue
            if record.id in found:
                warnings.append(f"skipped {path}: the same run as {found[record.id].path}")
                continue
            found[record.id] = StoredRecord(record, path)
        return list(found.values()), warnings

    def runs(self, use: IndexUse = "checked") -> tuple[RunTable, list[str]]:
        """What `read_all` reads, as columns, and the same warnings; from the index as far as `use` allows it."""
        table, unreadable = read_table(self.records_dir, self.cache, use)
        skipped = [(bad.path, bad.warning) for bad in unreadable]
        if len(np.unique(table.ids)) < len(table):
            _, first, run = np.unique(table.ids, return_index=True, return_inverse=True)
            again = np.flatnonzero(first[run] != np.arange(len(table)))
            skipped += [
                (table.paths[row], f"skipped {table.path(row)}: the same run as {table.path(int(first[run[row]]))}")
                for row in again.tolist()
            ]
            table = table.take(np.sort(first))
        return table, [warning for _, warning in sorted(skipped, key=lambda item: walk_order(item[0]))]

    def find(self, id_prefix: str) -> StoredRecord:
        """The record whose id starts with `id_prefix` (as tables print it), found by file name.

        Raises UnknownNameError when there is none, ConfigError when there are several, RecordError when it
        cannot be read.
        """
        prefix = id_prefix.lower()
        matches = [path for path in json_files(self.records_dir) if path.stem.rpartition("-")[2].startswith(prefix)]
        if not prefix or not matches:
            raise UnknownNameError(
                f"no record with an id that starts with '{id_prefix}' in {self.root}",
                hint="`lossbench leaderboard --runs` lists the ids",
            )
        if len(matches) > 1:
            some = ", ".join(path.stem for path in matches[:4]) + (", ..." if len(matches) > 4 else "")
            raise ConfigError(f"'{id_prefix}' is the start of {len(matches)} ids: {some}", hint="give more digits")
        return StoredRecord(read_record(matches[0]), matches[0])

    # --- writing ---

    def write(self, cell: Cell, record: Record, per_image: ArrayLike, image_names: Sequence[str]) -> Path:
        """Write the record and its sidecar atomically; returns the path of the JSON file.

        Args:
            per_image: TP, FP, FN (n_images, C, 3) that sum to those of `record.confusion`.
            image_names: n_images identifiers, in the same order.

        Raises SetupError when the folder cannot be written (permissions, disk full), RecordError when record,
        counts and cell do not belong together. On any error the store is as it was.
        """
        path = self.record_path(cell)
        text, sidecar = _contents(cell, record, per_image, image_names)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.replace(path.with_suffix(".npz"), sidecar)
            files.replace(path, text)
        except OSError as error:
            raise _not_writable(path, error) from error
        return path

    def write_first(self, cell: Cell, record: Record, per_image: ArrayLike, image_names: Sequence[str]) -> bool:
        """As `write`, but a sound record that is there already, or comes at this moment, stays: False then."""
        (added,) = self.add([(record, *_contents(cell, record, per_image, image_names))])
        if not added and not self.has(cell):  # what is there is damaged
            self.write(cell, record, per_image, image_names)
            return True
        return added

    def add(self, records: Iterable[tuple[Record, bytes, bytes | None]]) -> list[bool]:
        """Write records that are not there yet, each with the bytes of its JSON file and of its sidecar. Nothing is
        overwritten, whoever writes at the same time: False for a record whose place was taken. Raises SetupError; then
        some may be written, each whole."""
        waiting: list[tuple[Path, list[Path]]] = []
        temporary: list[Path] = []
        path = self.records_dir
        try:
            for record, text, sidecar in records:
                path = self.path_of(record)
                path.parent.mkdir(parents=True, exist_ok=True)
                made = [files.prepare(path, text)]
                temporary.append(made[0])
                if sidecar is not None:
                    made.append(files.prepare(path.with_suffix(".npz"), sidecar))
                    temporary.append(made[1])
                waiting.append((path, made))
            files.flush(temporary)
            added = [_settle(path, *made) for path, made in waiting]
            for folder in {path.parent for path, _ in waiting}:
                files.flush_folder(folder)
        except OSError as error:
            raise _not_writable(path, error) from error
        finally:
            for file in temporary:
                file.unlink(missing_ok=True)
        return added

    def add_sidecar(self, record: Record, sidecar: bytes) -> None:
        """Give a record that has no per-image counts its own. Raises SetupError."""
        path = self.path_of(record).with_suffix(".npz")
        try:
            files.create(path, sidecar)
            files.flush_folder(path.parent)
        except OSError as error:
            raise _not_writable(path, error) from error

    def set_aside(self, cell: Cell) -> None:
        """Move the record of a cell out of the way, to root/replaced/, so that it can be made anew. Nothing is lost:
        the file keeps its name, with a number when one of that name lies there. Raises SetupError."""
        path = self.record_path(cell)
        target = self.root / "replaced" / path.relative_to(self.records_dir)
        number = 1
        while target.exists():
            target = target.with_name(f"{path.stem}.{number}.json")
            number += 1
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)  # the JSON first: without it the cell is not done
            with contextlib.suppress(FileNotFoundError):
                os.replace(path.with_suffix(".npz"), target.with_suffix(".npz"))
        except OSError as error:
            raise _not_writable(target, error) from error

    def ensure_writable(self) -> None:
        """Create the root and try a write, so that a suite fails before its first hour and not after it.
        Raises SetupError."""
        probe = self.records_dir / ".writable"
        try:
            self.records_dir.mkdir(parents=True, exist_ok=True)
            files.replace(probe, b"")
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise _not_writable(self.records_dir, error) from error


# --- files ---


def _contents(cell: Cell, record: Record, per_image: ArrayLike, image_names: Sequence[str]) -> tuple[bytes, bytes]:
    """The bytes of the record and of its sidecar. Raises RecordError."""
    if record.id != cell.id:
        raise RecordError(f"the record {record.id} is not one of the cell {cell.id} ({cell.name})")
    text = record.to_json()
    Record.from_json(text)  # what cannot be read back is not written
    return text.encode(), sidecar_bytes(record, np.asarray(per_image), image_names)


def _settle(path: Path, text: Path, counts: Path | None = None) -> bool:
    """Give a record and its sidecar their names, if the record's is free. The sidecar goes first, as in `write`; one
    without a record, which a killed process has left or another is just writing, is put back if that one is faster."""
    if path.exists():
        return False
    sidecar, aside, mine = path.with_suffix(".npz"), None, 0
    if counts is not None:
        mine = counts.stat().st_ino
        while not files.link(counts, sidecar):
            aside = aside or files.temporary_name(sidecar)
            with contextlib.suppress(FileNotFoundError):
                os.replace(sidecar, aside)
    added = files.link(text, path)
    if aside is not None:
        if not added and sidecar.stat().st_ino == mine:
            os.replace(aside, sidecar)
        aside.unlink(missing_ok=True)
    return added


def _safe(name: str) -> str:
    """A single path component of harmless characters: no separator, no leading dot, never empty."""
    cleaned = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100]
    return "_" + cleaned if cleaned.startswith(".") or not cleaned else cleaned


def _not_writable(path: Path, error: OSError) -> SetupError:
    return SetupError(f"cannot write {path}: {error.strerror or error}", hint=UNWRITABLE_HINT)
