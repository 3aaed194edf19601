from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from lossbench.data import build, cache
from lossbench.data.build import estimate
from lossbench.data.cache import CachedSplit, open_split
from lossbench.data.entries import cache_entries, checksum, entry_folder
from lossbench.errors import DataError, SetupError
from lossbench.processes import this_process
from lossbench.registry import Registry
from tests.data.splits import SIZES, Memory
from tests.datasets import trees


@pytest.mark.parametrize("name", Registry("dataset").names())
def test_cache_holds_what_the_dataset_yields(name: str, tmp_path: Path) -> None:
    dataset = trees.build(name, tmp_path)
    split = open_split(dataset, "val", cache_root=tmp_path / "cache")
    assert split.names == tuple(dataset.names("val"))
    assert split.class_names == tuple(dataset.class_names)
    assert split.fingerprint == dataset.fingerprint("val")
    counts = np.zeros(256, np.int64)
    for index in range(len(split)):
        image, target = dataset.load("val", index)
        np.testing.assert_array_equal(split.image(index), image)
        np.testing.assert_array_equal(split.target(index), target)
        counts += np.bincount(target.ravel(), minlength=256)
    assert split.class_counts.dtype == np.int64
    np.testing.assert_array_equal(split.class_counts, counts[: dataset.num_classes])


def test_images_of_any_size_mix(tmp_path: Path) -> None:
    dataset = Memory()
    split = open_split(dataset, "train", cache_root=tmp_path)
    assert len(split) == 5
    for index, size in enumerate(SIZES):
        assert split.size(index) == size
        assert (split.image(index) == dataset.load("train", index)[0]).all()
    with pytest.raises(IndexError):
        split.image(5)
    with pytest.raises(ValueError, match="read-only"):
        split.image(0)[0, 0] = 1


def test_decodes_once_and_reports_progress(tmp_path: Path) -> None:
    dataset = Memory()
    seen: list[tuple[int, int]] = []
    open_split(dataset, "train", cache_root=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]
    assert dataset.loads == 5
    open_split(dataset, "train", cache_root=tmp_path, progress=lambda *_: pytest.fail("rebuilt"))
    assert dataset.loads == 5
    open_split(Memory(mark="other"), "train", cache_root=tmp_path)
    assert len(cache_entries(tmp_path)) == 2, "another fingerprint is another entry"


def test_pickle_carries_no_pixels(tmp_path: Path) -> None:
    split = open_split(Memory(((200, 300),)), "train", cache_root=tmp_path)
    split.image(0)
    text = pickle.dumps(split)
    assert len(text) < 1000
    assert (pickle.loads(text).image(0) == split.image(0)).all()


@pytest.mark.parametrize("damage", ["truncate", "header", "schema", "missing", "sizes", "order"])
def test_a_damaged_entry_is_rebuilt(tmp_path: Path, damage: str) -> None:
    dataset = Memory()
    folder = entry_folder(dataset, "train", tmp_path)
    open_split(dataset, "train", cache_root=tmp_path)
    header = json.loads((folder / "header.json").read_text())
    if damage == "truncate":
        os.truncate(folder / "images.bin", 100)
    elif damage == "header":
        (folder / "header.json").write_text('{"names": ["a')
    elif damage == "schema":
        (folder / "header.json").write_text("{}")
    elif damage == "missing":
        (folder / "targets.bin").unlink()
    elif damage == "order":
        header["names"].reverse()  # as many bytes
        (folder / "header.json").write_text(json.dumps(header))
    else:
        header["sizes"][0] = [1, 1]
        header["checksum"] = checksum(header)
        (folder / "header.json").write_text(json.dumps(header))
    said: list[str] = []
    split = open_split(dataset, "train", cache_root=tmp_path, say=said.append)
    assert dataset.loads == 10
    assert len(said) == 1
    assert said[0].startswith(f"a damaged cache is built anew: {folder}: ")
    assert (split.image(4) == dataset.load("train", 4)[0]).all()


class BadLabel(Memory):
    def load(self, split, index):  # type: ignore[no-untyped-def]
        image, target = super().load(split, index)
        if index == 3:
            target[:2, 0] = 7
        return image, target


class BadShape(Memory):
    def load(self, split, index):  # type: ignore[no-untyped-def]
        image, target = super().load(split, index)
        return image, target[1:]


class Unreadable(Memory):
    def load(self, split, index):  # type: ignore[no-untyped-def]
        raise PermissionError(13, "Permission denied")


class BadType(Memory):
    def load(self, split, index):  # type: ignore[no-untyped-def]
        image, target = super().load(split, index)
        return image.astype(float), target


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (BadLabel, r"train image 'train3': id 7 out of range in 2 of 240 pixels \(3 classes, 255 is ignored\)"),
        (BadShape, r"target must be uint8 \(12, 20\), got uint8 \(11, 20\)"),
        (Unreadable, r"train image 'train0' cannot be read .*Permission denied"),
        (BadType, r"must be uint8 \(H, W, 3\), got float64"),
    ],
)
def test_bad_data_never_enters(tmp_path: Path, kind: type[Memory], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_split(kind(), "train", cache_root=tmp_path)
    assert cache_entries(tmp_path) == [], "nothing half-built is left"


def test_empty_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        open_split(Memory(()), "train", cache_root=tmp_path)


def test_full_disk_is_found_before_building(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 3000))
    with pytest.raises(SetupError, match=r"need 0\.0 MB, .* has 0\.0 MB free") as caught:
        open_split(Memory(), "train", cache_root=tmp_path)
    assert "LOSSBENCH_CACHE" in (caught.value.hint or "")
    assert cache_entries(tmp_path) == []


def test_disk_that_runs_full_while_building(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = build.create
    # /dev/full takes nothing, as a full disk does.
    monkeypatch.setattr(build, "create", lambda f: real(Path("/dev/full") if f.name == "targets.bin" else f))
    with pytest.raises(SetupError, match="the disk ran full while decoding"):
        open_split(Memory(), "train", cache_root=tmp_path)
    assert cache_entries(tmp_path) == []


def test_unwritable_cache(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(SetupError, match="cannot write the cache folder"):
        open_split(Memory(), "train", cache_root=blocker / "cache")


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    folder = entry_folder(Memory(), "train", tmp_path)
    gone = subprocess.Popen(["true"])
    gone.wait()
    maker = f"{build._boot(this_process())}-{gone.pid}-1"
    stale = tmp_path / f".{folder.name}.building-{maker}-abc"
    stale.mkdir()
    (stale / "images.bin").write_bytes(b"123")
    assert [(e.complete, e.bytes) for e in cache_entries(tmp_path)] == [(False, 3)]
    open_split(Memory(), "train", cache_root=tmp_path)
    assert not stale.exists()
    (entry,) = cache_entries(tmp_path)
    assert entry.complete
    entry.remove()
    assert cache_entries(tmp_path) == []


def test_what_another_machine_is_building_is_swept_when_nothing_was_written_for_long(tmp_path: Path) -> None:
    folder = entry_folder(Memory(), "train", tmp_path)
    busy, left = (
        tmp_path / f".{folder.name}.building-{name}" for name in ("0123456789ab-1-1-abc", "of-an-older-version")
    )
    for theirs in (busy, left):
        theirs.mkdir()
        (theirs / "images.bin").write_bytes(b"123")
        os.utime(theirs, (1, 1))
    os.utime(left / "images.bin", (1, 1))
    open_split(Memory(), "train", cache_root=tmp_path)
    assert busy.exists()
    assert not left.exists()


def _open(root: Path, queue: multiprocessing.Queue[tuple[int, int]], start: object) -> None:
    dataset = Memory(((64, 64),) * 40)
    start.wait()  # type: ignore[attr-defined]
    split = open_split(dataset, "train", cache_root=root)
    queue.put((dataset.loads, int(split.image(39).sum())))


def test_two_processes_build_one_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue, start = context.Queue(), context.Barrier(2)
    processes = [context.Process(target=_open, args=(tmp_path, queue, start)) for _ in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert sorted(loads for loads, _ in results) == [0, 40], "one builds, the other waits"
    assert results[0][1] == results[1][1]
    assert len(cache_entries(tmp_path)) == 1


class NoLock:
    """A lock that other machines do not see."""

    def __init__(self, file: Path) -> None: ...

    def acquire(self, blocking: bool = True) -> None: ...

    def release(self) -> None: ...


@pytest.mark.parametrize("damaged", [False, True])
def test_two_machines_that_do_not_see_each_others_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """Both build; the first to finish is kept, also by the second, for it may be in use by then."""
    monkeypatch.setattr(cache, "FileLock", NoLock)
    both_build, first_is_done = threading.Barrier(2), threading.Event()

    class Slow(Memory):
        def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            if index == 0:
                both_build.wait(20)
            if index == 4 and self is second:
                assert first_is_done.wait(20)
            return super().load(split, index)

    opened: dict[Memory, CachedSplit] = {}
    inodes: list[int] = []

    def work(dataset: Memory) -> None:
        opened[dataset] = open_split(dataset, "train", cache_root=tmp_path)
        inodes.append((opened[dataset].folder / "images.bin").stat().st_ino)
        first_is_done.set()

    first, second = Slow(), Slow()
    if damaged:
        folder = entry_folder(first, "train", tmp_path)
        folder.mkdir()
        (folder / "header.json").write_text("{")
    threads = [threading.Thread(target=work, args=(dataset,)) for dataset in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (first.loads, second.loads) == (5, 5)
    assert inodes[0] == inodes[1]
    assert (opened[first].image(4) == opened[second].image(4)).all()
    assert [entry.complete for entry in cache_entries(tmp_path)] == [True], "nothing is left"


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(NoLock):
        def acquire(self, blocking: bool = True) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(cache, "FileLock", Refused)
    assert len(open_split(Memory(), "train", cache_root=tmp_path)) == 5


def test_open_split_of_a_cached_split_folder(tmp_path: Path) -> None:
    split = open_split(Memory(), "train", cache_root=tmp_path)
    assert CachedSplit(split.folder).names == split.names


def test_estimate_is_what_it_takes(tmp_path: Path) -> None:
    dataset = Memory(((64, 64), (32, 64)) * 20)
    assert dataset.loads == 0
    expected = estimate(dataset, "train")
    assert dataset.loads <= 8
    open_split(dataset, "train", cache_root=tmp_path)
    assert cache_entries(tmp_path)[0].bytes == pytest.approx(expected, rel=0.1)


def test_an_older_layout_is_left_over(tmp_path: Path) -> None:
    folder = entry_folder(Memory(), "train", tmp_path)
    old = tmp_path / folder.name.replace("-v2", "-v1")
    open_split(Memory(), "train", cache_root=tmp_path)
    shutil.copytree(folder, old)
    assert [(entry.folder, entry.complete) for entry in cache_entries(tmp_path)] == [(old, False), (folder, True)]


def test_who_waits_says_so(tmp_path: Path) -> None:
    folder = entry_folder(Memory(), "train", tmp_path)
    said: list[str] = []
    lock = FileLock(tmp_path / f".{folder.name}.lock")
    lock.acquire()

    def say(message: str) -> None:
        said.append(message)
        lock.release()

    assert len(open_split(Memory(), "train", cache_root=tmp_path, say=say)) == 5
    assert said == [f"another process is decoding {folder.name}: waiting for it"]
