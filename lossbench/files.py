"""Files on folders that many machines share: written whole or not at all, without relying on locks.

What is relied on is what NFS and the file systems of clusters keep across machines: a rename replaces at once, and of
several that make one name (a hard link, or O_EXCL) exactly one succeeds.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: A directory that cannot be flushed: some file systems know no such thing, and need none.
_NO_SUCH_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EISDIR, errno.EACCES}
#: Files flushed at a time.
_FLUSHED = 16
#: A file system without hard links (FAT, some of the network).
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def read(path: Path | str) -> bytes:
    """The contents of a file. Once more when another machine replaced it while it was read (ESTALE)."""
    try:
        return _read(path)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return _read(path)


def _read(path: Path | str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def replace(path: Path, content: bytes) -> None:
    """Write a file: atomic and durable. A reader sees the old one or the new one, also after a power failure."""
    temporary = prepare(path, content)
    try:
        flush([temporary])
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def create(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet; False, and nothing done, when it is. Of several who try, on any machines,
    one gets True. Durable but for its name: see `flush_folder`."""
    temporary = prepare(path, content)
    try:
        flush([temporary])
        return link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def prepare(path: Path, content: bytes) -> Path:
    """Write a file beside `path`, which is to get its name by `os.replace` or `link`; returns it."""
    temporary = temporary_name(path)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def flush(files: Iterable[Path]) -> None:
    """Flush the contents of files to disk; of many, several at a time, for which a disk needs hardly longer."""
    found = list(files)
    if len(found) < 3:
        for file in found:
            _flush(file)
        return
    with ThreadPoolExecutor(_FLUSHED) as pool:
        for _ in pool.map(_flush, found):
            pass


def _flush(file: Path) -> None:
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())


def link(temporary: Path, path: Path) -> bool:
    """Give a file of one's own the name `path` as well; False when something has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Over a network a request whose answer got lost is sent again, and then finds its own work.
        return temporary.stat().st_nlink > 1 and os.path.samefile(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # empty for an instant
        except FileExistsError:
            return False
        os.replace(temporary, path)
    return True


def flush_folder(folder: Path) -> None:
    """Flush names to disk: they live in the folder, not in the files."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SUCH_FLUSH:
            raise


def temporary_name(path: Path) -> Path:
    """A hidden name beside `path` that no other process on any machine takes."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
