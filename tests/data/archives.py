"""A small archive and a server on this machine that can skip, break off, and be asked what was fetched."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def tar_of(folder: Path) -> bytes:
    """A folder's content as a tar archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for entry in sorted(folder.iterdir()):
            tar.add(entry, entry.name)
    return data.getvalue()


@dataclass
class Served:
    """What a server gives out. `stop_after`: it closes the connection after so many bytes of an answer; `ranges`:
    whether it can skip; `asked`: the Range header of every request."""

    data: bytes
    url: str = ""
    stop_after: int | None = None
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)

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
            if self.path != "/a.tar":
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and served.ranges else 0
            if start >= len(served.data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(served.data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(served.data) - 1}/{len(served.data)}")
            self.end_headers()
            self.wfile.write(served.data[start:][: served.stop_after])

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
