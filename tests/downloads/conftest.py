"""A real HTTP server on this machine that misbehaves as told, for the tests of what downloads."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from engineroom import downloads

PIECE_BYTES = 64 << 10


@dataclass
class File:
    """A file as it is served. `breaks` are the numbers of bytes after which one answer each breaks off."""

    content: bytes
    etag: str | None = None  # by default the content's
    ranges: bool = True
    honest: bool = True  # if not, If-Range is overlooked
    breaks: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)  # one status code per answer, before any content
    redirect: str | None = None
    piece_s: float = 0.0  # before each piece
    length: bool = True  # whether its length is told
    at_most: int | None = None  # bytes of one range
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/octet-stream"

    @property
    def tag(self) -> str:
        """The ETag."""
        return self.etag if self.etag is not None else f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


class Server:
    """The files by their paths, and what was asked for: path, Range and status, in that order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, File] = {}
        self.asked: list[tuple[str, str | None, int]] = []
        self.passwords: list[str] = []

    def add(self, path: str, content: bytes, **facts: Any) -> File:
        """Serve a file."""
        self.files[path] = File(content, **facts)
        return self.files[path]

    def url(self, path: str) -> str:
        """Return the address of a file."""
        return f"{self.address}{path}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve on a free port, to a client that does not wait long before it tries again."""
    monkeypatch.setattr(downloads, "BACKOFF_S", 0.01)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802  (http.server's name)
            _answer(self, server)

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _answer(request: BaseHTTPRequestHandler, server: Server) -> None:
    file, asked = server.files.get(request.path), request.headers.get("Range")
    begin, status = 0, 200
    if file is None:
        status = 404
    elif file.failures:
        status = file.failures.pop(0)
    elif file.redirect:
        status = 302
    elif asked and file.ranges and (not file.honest or request.headers.get("If-Range", file.tag) == file.tag):
        begin = int(re.findall(r"\d+", asked)[0])
        status = 206 if begin < len(file.content) else 416
    server.asked.append((request.path, asked, status))
    server.passwords += request.headers.get_all("Authorization", [])
    request.send_response(status)
    if file is None or status not in (200, 206):
        if file and file.redirect:
            request.send_header("Location", file.redirect)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    whole = len(file.content)
    last = min(whole, begin + (file.at_most or whole)) if status == 206 else whole
    if status == 206:
        request.send_header("Content-Range", f"bytes {begin}-{last - 1}/{whole}")
    for name, value in file.headers.items():
        request.send_header(name, value)
    if file.tag:
        request.send_header("ETag", file.tag)
    if file.length:
        request.send_header("Content-Length", str(last - begin))
    request.send_header("Content-Type", file.media_type)
    request.send_header("Connection", "close")
    request.close_connection = True
    request.end_headers()
    end = min(last, file.breaks.pop(0)) if file.breaks else last
    for at in range(begin, end, PIECE_BYTES):
        time.sleep(file.piece_s)
        try:
            request.wfile.write(file.content[at : min(at + PIECE_BYTES, end)])
        except OSError:  # the client has gone
            return
