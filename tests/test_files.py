"""files.py: what shared folders do to those who are not prepared."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from lossbench import files
from lossbench.errors import RecordError
from lossbench.sidecar import load_sidecar
from lossbench.store import Store
from tests.factories import make_cell, put


def stale_times(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """The first `times` openings of a file find that the server has replaced it."""
    left, real = [times], open

    def opened(path: object, *arguments: object, **more: object) -> object:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(files, "open", opened, raising=False)
    return left


def test_a_file_that_was_replaced_on_the_server_is_read_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    path = put(store)
    left = stale_times(monkeypatch, 1)
    assert store.has(make_cell())
    left[0] = 1
    assert len(load_sidecar(path.with_suffix(".npz"))[1]) == 4
    left[0] = 2
    with pytest.raises(RecordError, match="Stale"):
        store.load(make_cell())


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_folders_that_cannot_be_flushed_need_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    put(Store(tmp_path))
    assert Store(tmp_path).has(make_cell())


def test_a_disk_that_breaks_while_a_folder_is_flushed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        files.flush_folder(tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_of_many_who_create_a_file_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def none(*names: object) -> None:
            raise OSError(errno.ENOTSUP, "Operation not supported")

        monkeypatch.setattr(os, "link", none)
    for round_ in range(20):
        path, start, made = tmp_path / str(round_), threading.Barrier(6), []

        def work(number: int, path: Path = path, start: threading.Barrier = start, made: list[int] = made) -> None:
            start.wait()
            if files.create(path, b"%d" % number):
                made.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [path.read_bytes()] == [b"%d" % number for number in made]
    assert len(list(tmp_path.iterdir())) == 20, "nothing temporary is left"
