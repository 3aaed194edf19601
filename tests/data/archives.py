"""A small archive and a server on this machine that can skip, break off, and be asked what was fetched."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def tar_of(folder: Path, pattern: str = "*", compression: str = "") -> bytes:
    """A folder's content as a tar archive; only the entries that match."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as tar:
        for entry in sorted(folder.glob(pattern)):
            tar.add(entry, entry.name)
    return data.getvalue()


def zip_of(folder: Path, mac: bool = False) -> bytes:
    """A folder's content as a zip archive; `mac`: with what macOS adds."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            name = file.relative_to(folder).as_posix()
            archive.write(file, name)
            if mac:
                archive.writestr(f"__MACOSX/{name}", b"thumbnail")
    return data.getvalue()


@dataclass
class Served:
    """What a server gives out. `stop_after`: it closes the connection after so many bytes of an answer; `ranges`:
    whether it can skip; `asked`: the Range header of every request; `files`: more of them, by path; `paths`: of what
    was asked for."""

    data: bytes
    url: str = ""
    stop_after: int | None = None
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)

    @property
    def md5(self) -> str:
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()


@contextmanager
def serving(data: bytes) -> Iterator[Served]:
    served = Served(data)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            served.asked.append(asked)
            served.paths.append(self.path)
            data = ({"/a.tar": served.data} | served.files).get(self.path)
            if data is None:
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and served.ranges else 0
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            self.wfile.write(data[start:][: served.stop_after])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    served.url = f"http://127.0.0.1:{server.server_port}/a.tar"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
