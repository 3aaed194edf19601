"""Building an entry of the cache: decode in parallel, check every label, write once, move into place.

Training never sees a label that is neither a class nor the ignored one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lossbench.data.entries import (
    BUILDING,
    HEADER,
    IMAGES,
    LAYOUT,
    TARGETS,
    checksum,
    dataset_name,
    megabytes,
    unwritable,
)
from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import DataError, SetupError
from lossbench.processes import Process, this_process

#: Share kept free beside the estimate, and bytes of a header per image.
_SLACK, _HEADER_BYTES = 1.02, 128
#: Seconds in which every builder writes something, however slow its disk.
_ABANDONED_S = 3600.0
#: Images an estimate looks at: of a dataset with images of many sizes, spread over the split.
_SAMPLED = 8

Progress = Callable[[int, int], None]
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def estimate(dataset: SegmentationDataset, split: str) -> int:
    """About how many bytes an entry will take, from a few images spread over the split. Raises DataError."""
    count = len(dataset.names(split))
    if not count:
        raise DataError(f"{dataset_name(dataset)}: split '{split}' holds no image")
    sampled = sorted({round(i * (count - 1) / (_SAMPLED - 1)) for i in range(_SAMPLED)})
    sizes = [sum(part.nbytes for part in _load(dataset, split, index)) for index in sampled]
    return int(count * (sum(sizes) / len(sizes) + _HEADER_BYTES))


def build(
    dataset: SegmentationDataset,
    split: str,
    folder: Path,
    fingerprint: str,
    progress: Progress | None,
    *,
    is_sound: Callable[[Path], bool],
) -> None:
    """Build an entry beside its place and move it there. The caller holds the entry's lock; but other machines may not
    see it, so several may build at once: the first to finish is kept.

    Args:
        is_sound: whether a folder holds an entry that is whole.

    Raises DataError and SetupError as `open_split`; nothing half-built is left."""
    names = dataset.names(split)
    if not names:
        raise DataError(f"{dataset_name(dataset)}: split '{split}' holds no image")
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}{BUILDING}{_maker()}-", dir=folder.parent))
    except OSError as error:
        raise unwritable(folder.parent, error) from None
    try:
        _sweep(temporary, f".{folder.name}{BUILDING}")
        pairs = _decoded(dataset, split, len(names))
        first = next(pairs)
        check_space(folder.parent, int(_SLACK * len(names) * (first[0].nbytes + first[1].nbytes + _HEADER_BYTES)))
        sizes, counts = [], np.zeros(dataset.num_classes, np.int64)
        with create(temporary / IMAGES) as images, create(temporary / TARGETS) as targets:
            for index, (image, target) in enumerate(chain([first], pairs)):
                images.write(np.ascontiguousarray(image).data)
                targets.write(np.ascontiguousarray(target).data)
                sizes.append(list(target.shape))
                counts += np.bincount(target.ravel(), minlength=256)[: len(counts)]
                if progress is not None:
                    progress(index + 1, len(names))
        header: dict[str, Any] = {
            "layout": LAYOUT,
            "dataset": dataset_name(dataset),
            "split": split,
            "fingerprint": fingerprint,
            "class_names": list(dataset.class_names),
            "ignore_index": dataset.ignore_index,
            "class_counts": counts.tolist(),
            "names": list(names),
            "sizes": sizes,
        }
        header["checksum"] = checksum(header)
        with create(temporary / HEADER) as file:
            file.write(json.dumps(header).encode())
        temporary.chmod(0o755)  # mkdtemp makes it private; a cache may be shared by a group
        _place(temporary, folder, is_sound)
    except OSError as error:  # of writing: `_load` turns those of reading into DataErrors
        shutil.rmtree(temporary, ignore_errors=True)
        raise unwritable(folder.parent, error) from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _place(temporary: Path, folder: Path, is_sound: Callable[[Path], bool]) -> None:
    """Give a finished entry its name, or discard it for a sound one that got there first and may be in use."""
    for _ in range(3):
        try:
            temporary.rename(folder)
            return
        except OSError as error:
            # ENOENT: over a network, a request that was sent again because its answer got lost.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise
        if is_sound(folder):
            shutil.rmtree(temporary, ignore_errors=True)
            return
        damaged = temporary.with_name(f"{temporary.name}-damaged")
        with contextlib.suppress(FileNotFoundError):  # another machine was faster
            folder.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    raise OSError(errno.EEXIST, "another process keeps putting a damaged entry there")


def _maker() -> str:
    """Tells of which process a half-built entry is."""
    process = this_process()
    return f"{_boot(process)}-{process.pid}-{process.started}"


def _boot(process: Process) -> str:
    return hashlib.sha256(process.boot.encode()).hexdigest()[:12]


def _sweep(mine: Path, prefix: str) -> None:
    """Remove what killed processes have left of an entry, but nothing that another machine may be building."""
    here, now = this_process(), mine.stat().st_mtime  # by the clock of the file server
    for stale in mine.parent.glob(f"{prefix}*"):
        boot, pid, started, *_ = [*stale.name.removeprefix(prefix).split("-"), "", "", ""]
        lives = replace(here, pid=int(pid), started=started).lives() if boot == _boot(here) and pid.isdigit() else None
        if lives is None:
            with contextlib.suppress(OSError):
                lives = now - max(path.stat().st_mtime for path in (stale, *stale.iterdir())) < _ABANDONED_S
        if not lives and stale != mine:
            shutil.rmtree(stale, ignore_errors=True)


def _decoded(dataset: SegmentationDataset, split: str, count: int) -> Iterator[Pair]:
    """Checked pairs in order, decoded a few ahead by threads (decoders release the interpreter lock)."""
    workers = min(8, os.cpu_count() or 1, count)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[Future[Pair]] = deque()
    try:
        submitted = 0
        for _ in range(count):
            while submitted < count and len(pending) < 2 * workers:
                pending.append(pool.submit(_load, dataset, split, submitted))
                submitted += 1
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _load(dataset: SegmentationDataset, split: str, index: int) -> Pair:
    def where() -> str:
        return f"{dataset_name(dataset)}: {split} image '{dataset.names(split)[index]}'"

    try:
        image, target = dataset.load(split, index)
    except OSError as error:
        raise DataError(f"{where()} cannot be read ({error})") from error
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"{where()} must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if target.dtype != np.uint8 or target.shape != image.shape[:2]:
        raise DataError(f"{where()}: target must be uint8 {image.shape[:2]}, got {target.dtype} {target.shape}")
    bad = (target >= dataset.num_classes) & (target != dataset.ignore_index)
    if bad.any():
        ids = ", ".join(map(str, np.unique(target[bad])[:8].tolist()))
        raise DataError(
            f"{where()}: id {ids} out of range in {int(bad.sum())} of {bad.size} pixels "
            f"({dataset.num_classes} classes, {dataset.ignore_index} is ignored)"
        )
    return image, target


def check_space(folder: Path, needed: int) -> None:
    """Raises SetupError unless the disk of `folder` has `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SetupError(
            f"the decoded images need {megabytes(needed)}, {folder} has {megabytes(free)} free",
            hint="set LOSSBENCH_CACHE to a folder on a larger disk, or run `lossbench clean --cache`",
        )


def create(file: Path) -> BinaryIO:
    return file.open("wb")
