"""Fetching a published archive: resumed where it stopped, checked, unpacked beside its place and moved there."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

import lossbench
from lossbench.data.entries import megabytes
from lossbench.errors import ConfigError, SetupError
from lossbench.untar import extract

#: Seconds a connection may be silent before it counts as down.
TIMEOUT = 30.0
_CHUNK = 1 << 20
#: What macOS adds to a zip: thumbnails and the like, in every archive under the same name.
_MAC = "__MACOSX"
_AGAIN = "run it again: it goes on where it stopped"

#: Told (bytes there, bytes in all or None).
Progress = Callable[[int, int | None], None]


def check_url(url: str) -> None:
    """Raises ConfigError unless `url` is an http or https address that can be asked."""
    try:
        parts = urlparse(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # asking raises ValueError
    except ValueError as error:
        raise ConfigError(f"'{url}' is no address ({error})") from None
    if not sound:
        raise ConfigError(f"'{url}' is no http or https address")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"'{url}' has characters that an address cannot have", hint="write them as %20 and the like")


def obtain(
    url: str,
    md5: str,
    part: Path,
    folder: Path,
    *,
    on_bytes: Progress = lambda done, total: None,
    say: Callable[[str], None] = lambda message: None,
) -> None:
    """Fetch the archive at `url` (tar or zip) and unpack it into `folder`, all or nothing.

    Args:
        md5: what its checksum must be, hexadecimal.
        part: holds what was fetched so far; gone at the end.
        folder: made if it is not there; nothing in it is replaced.
        on_bytes: told while fetching.
        say: told in a sentence what takes long.

    Raises:
        ConfigError: the address is not http or https.
        SetupError: no connection, no room, another checksum, a damaged archive, something in the way.
    """
    check_url(url)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with _sole(part):
            if not (part.is_file() and _md5(part) == md5):
                fetch(url, part, on_bytes)
                say(f"checking {part.name}")
                _verify(part, url, md5)
            say(f"unpacking into {folder}")
            unpack(part, folder)
            part.unlink()
    except OSError as error:
        raise SetupError(f"cannot write to {part.parent} ({error.strerror or error})") from error


@contextmanager
def _sole(part: Path) -> Iterator[None]:
    """While no other process fetches the same file. Raises SetupError."""
    lock = FileLock(part.with_name(f".{part.name}.lock"), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise SetupError(f"another process is fetching {part.name}") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def fetch(url: str, part: Path, on_bytes: Progress) -> None:
    """Bring `part` to the length of the file at `url`; what it holds already is not fetched again if the server can
    skip it. Raises SetupError; OSError when `part` cannot be written."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": f"lossbench/{lossbench.__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as answer:
            resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            done = have if resumed else 0
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length else None
            _check_room(part.parent, done, total)
            with part.open("ab" if resumed else "wb") as file:
                while chunk := _read(answer, url):
                    file.write(chunk)
                    done += len(chunk)
                    on_bytes(done, total)
    except HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send: the checksum will tell
            return
        raise SetupError(f"{url}: the server says {error.code} {error.reason}", hint="try a mirror: --url") from None
    except (URLError, HTTPException, TimeoutError, UnicodeError) as error:  # UnicodeError: no name of a host
        raise _unreachable(url, getattr(error, "reason", error)) from None
    if total is not None and done < total:
        raise SetupError(f"{url}: the connection ended after {megabytes(done)} of {megabytes(total)}", hint=_AGAIN)


def _read(answer: HTTPResponse, url: str) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, HTTPException) as error:  # of the network, not of the disk
        raise SetupError(f"{url}: the connection broke ({error})", hint=_AGAIN) from None


def _unreachable(url: str, reason: object) -> SetupError:
    host = urlparse(url).netloc
    return SetupError(
        f"cannot reach {host} ({reason})",
        hint=f"is there a network? Or fetch {url} elsewhere and unpack it there; a mirror: --url",
    )


def _check_room(folder: Path, done: int, total: int | None) -> None:
    """Raises SetupError unless the rest of the archive and what it unpacks to (as much again) fit on the disk."""
    if total is None:
        return
    needed, free = 2 * total - done, shutil.disk_usage(folder).free
    if needed > free:
        raise SetupError(
            f"archive and images need {megabytes(needed)}, {folder} has {megabytes(free)} free",
            hint="set LOSSBENCH_DATA or --data-root to a folder on a larger disk",
        )


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _verify(part: Path, url: str, md5: str) -> None:
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise SetupError(
            f"{url}: the file's MD5 is {found}, expected {md5}: it was removed",
            hint="run it again; if it stays so, the file there is another one: try a mirror with --url",
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive into `folder`: beside it first, then moved. Raises SetupError: damaged, a member that
    would land elsewhere, something in the way; OSError when it cannot be written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        if zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive):
            _unpack_zip(archive, temporary)
        else:
            with tarfile.open(archive) as tar:
                extract(tar, temporary)
        entries = sorted(entry for entry in temporary.iterdir() if entry.name != _MAC)
        for entry in entries:
            if (folder / entry.name).exists():
                raise SetupError(f"{folder / entry.name} is there already", hint="move it away, then run it again")
        folder.mkdir(exist_ok=True)
        for entry in entries:
            os.rename(entry, folder / entry.name)
    except NotImplementedError as error:  # zipfile's word for a compression it does not know
        raise SetupError(
            f"{archive.name} cannot be unpacked ({error})", hint=f"unpack {archive} with another program, into {folder}"
        ) from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise SetupError(f"{archive.name} cannot be unpacked ({error})", hint="remove it and run it again") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_zip(archive: Path, folder: Path) -> None:
    """Raises BadZipFile: damaged, encrypted, or a member that would land elsewhere (`zipfile` would rename it)."""
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            name = member.filename.replace("\\", "/")
            if name.startswith("/") or ":" in name or ".." in name.split("/"):
                raise zipfile.BadZipFile(f"{member.filename} would land elsewhere")
            if member.flag_bits & 0x1:
                raise zipfile.BadZipFile(f"{member.filename} is encrypted")
        opened.extractall(folder)
