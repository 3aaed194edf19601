"""Bringing the records of several results folders together. Nothing is overwritten: where two folders have the same run
with different numbers, both are reported and stay where they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench import metrics
from lossbench.errors import ConfigError, RecordError
from lossbench.foreign import Foreign, Skipped, read_folder, read_foreign, records_folder
from lossbench.readmany import read_record
from lossbench.records import Record
from lossbench.sidecar import read_sidecar
from lossbench.store import Store

#: Records, and about how many bytes, that are written at a time.
_BATCH, _BATCH_BYTES = 512, 2**26


@dataclass(frozen=True)
class Told:
    """What a report says of one of two runs that differ. `miou` is a fraction."""

    path: Path
    miou: float
    machine: str
    torch: str


@dataclass(frozen=True)
class Difference:
    """The same run with different numbers: in what, and each of the two."""

    id: str
    cell: str
    differ: tuple[str, ...]
    ours: Told
    theirs: Told


@dataclass
class Merged:
    """What became of the records of one folder.

    Attributes:
        richer: files of those that are the same but for extra counts (boundaries, calibration) that ours lack.
    """

    folder: Path
    new: int = 0
    same: int = 0
    richer: list[Path] = field(default_factory=list)
    different: list[Difference] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def merge(
    store: Store, folders: Sequence[Path], *, dry_run: bool = False, progress: Callable[[int], None] = lambda done: None
) -> list[Merged]:
    """Copy what the store lacks of the records in other results folders, in their order: of folders that disagree with
    each other the first counts. Others may run into or merge into the store meanwhile.

    Args:
        dry_run: write nothing; the answer is the same.
        progress: called with the number of files looked at so far.

    Raises ConfigError for a folder without records or the store's own, SetupError when the store cannot be written.
    """
    sources = [(folder, records_folder(folder)) for folder in folders]
    for folder, records in sources:
        if store.records_dir.exists() and os.path.samefile(records, store.records_dir):
            raise ConfigError(f"{folder} is the results folder itself", hint="name another one, or other --results")
    merger = _Merger(store, dry_run)
    done = 0
    for folder, records in sources:
        merger.begin(folder)
        for found in read_folder(records):
            merger.take(found)
            done += 1
            progress(done)
        merger.write()
    return merger.merged


class _Merger:
    def __init__(self, store: Store, dry_run: bool) -> None:
        self._store, self._dry_run = store, dry_run
        self.merged: list[Merged] = []
        self._batch: list[Foreign] = []
        self._bytes = 0
        #: Where the records came from that are new to the store, by id.
        self._new: dict[str, Path] = {}

    def begin(self, folder: Path) -> None:
        self.merged.append(Merged(folder))

    def take(self, found: Foreign | Skipped) -> None:
        if isinstance(found, Skipped):
            self.merged[-1].skipped.append(found)
        elif found.record.id in self._new:
            first = read_foreign(self._new[found.record.id])
            if isinstance(first, Skipped):  # it was changed since
                self.merged[-1].skipped.append(first)
            else:
                self._compare(found, first.path, first.record, first.counts)
        elif os.path.lexists(self._store.path_of(found.record)):
            self._compare_stored(found)
        else:
            self._new[found.record.id] = found.path
            self.merged[-1].new += 1
            self._batch.append(found)
            self._bytes += len(found.text) + len(found.sidecar or b"")
            if len(self._batch) >= _BATCH or self._bytes >= _BATCH_BYTES:
                self.write()

    def write(self) -> None:
        """Write what waits; what somebody else has written meanwhile is compared with that."""
        batch, self._batch, self._bytes = self._batch, [], 0
        if self._dry_run:
            return
        added = self._store.add((item.record, item.text, item.sidecar) for item in batch)
        for item, is_new in zip(batch, added, strict=True):
            if not is_new:
                del self._new[item.record.id]
                self.merged[-1].new -= 1
                self._compare_stored(item)

    def _compare_stored(self, found: Foreign) -> None:
        path = self._store.path_of(found.record)
        sidecar, counts = path.with_suffix(".npz"), None
        try:
            ours = read_record(path)
            if ours.id != found.record.id:
                raise RecordError(f"{path}: holds the record of another cell ({ours.id})")
            if sidecar.exists():
                counts = read_sidecar(sidecar, ours)[0]
        except RecordError as error:
            self.merged[-1].skipped.append(Skipped(found.path, f"ours is damaged, and stays: {error.message}"))
            return
        if self._compare(found, path, ours, counts) and counts is None and found.sidecar and not self._dry_run:
            self._store.add_sidecar(ours, found.sidecar)

    def _compare(self, found: Foreign, path: Path, ours: Record, counts: NDArray[np.int32] | None) -> bool:
        """Whether the numbers are the same: all that scores come from. Times and machines are not."""
        theirs = found.record
        differ = {
            f"status ({ours.status}, {theirs.status})": ours.status != theirs.status,
            "class names": ours.class_names != theirs.class_names,
            "confusion matrix": not np.array_equal(ours.confusion, theirs.confusion),
            "per-image counts": counts is not None
            and found.counts is not None
            and not np.array_equal(counts, found.counts),
            "extra counts": any(
                ours.extra_counts[key] != theirs.extra_counts[key]
                for key in ours.extra_counts.keys() & theirs.extra_counts.keys()
            ),
        }
        words = tuple(word for word, is_so in differ.items() if is_so)
        if words:
            labels = theirs.labels
            cell = f"{labels['dataset']}/{labels['backbone']}/{labels['loss']}/seed{theirs.seed}"
            told = Difference(theirs.id, cell, words, _told(path, ours), _told(found.path, theirs))
            self.merged[-1].different.append(told)
        else:
            self.merged[-1].same += 1
            if theirs.extra_counts.keys() - ours.extra_counts.keys():
                self.merged[-1].richer.append(found.path)
        return not words


def _told(path: Path, record: Record) -> Told:
    hardware = record.provenance.get("hardware") or {}
    processor = (hardware.get("gpu") or {}).get("name") or hardware.get("cpu") or "unknown"
    torch = (record.provenance.get("packages") or {}).get("torch") or "unknown"
    return Told(path, metrics.mean_iou(record.confusion), str(processor), str(torch))
