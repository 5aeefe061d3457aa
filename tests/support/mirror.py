# SPDX-License-Identifier: MIT
"""A mirror on the loopback interface, with faults that can be switched on per path."""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NoReturn

import pytest


@dataclass
class Page:
    """What one path answers.  Faults are combined freely; `times` says how often they strike."""

    content: bytes = b""
    status: int = 200
    """Anything but 200 is answered without the content."""
    location: str = ""
    """Redirect there (with status 302)."""
    cut: int | None = None
    """Send that many bytes of the body, then close the connection."""
    stall: bool = False
    """With `cut`: keep the connection open instead, without another byte."""
    wait: float = 0.0
    """Seconds until the answer begins (less if the mirror is closed)."""
    ranges: bool = True
    """False: ignore the Range header, as simple servers do."""
    shift: int = 0
    """Begin that many bytes off the range that was asked for."""
    chunked: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = None
    """Faults (status, cut, wait) strike this often, then the page is sound."""


@dataclass(frozen=True)
class Request:
    """A request the mirror saw."""

    method: str
    path: str
    range: str


class Mirror:
    """A real http server; use it as a context manager.

    `pages` maps a path below `url` to what it answers (anything else is a 404);
    `requests` is what was asked so far.
    """

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()
        mirror = self

        class Handler(_Handler):
            owner = mirror

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def asked(self, path: str) -> list[Request]:
        """Return the requests for one path."""
        return [request for request in self.requests if request.path == path]

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Mirror
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        asked = self.headers.get("Range", "")
        self.owner.requests.append(Request(self.command, path, asked))
        page = self.owner.pages.get(path)
        if page is None:
            self._head(404, 0)
            return
        faulty = page.times is None or page.times > 0
        if page.times:
            page.times -= 1
        if faulty:
            self.owner.closing.wait(page.wait)
        if page.location:
            self._head(302, 0, {"Location": page.location})
        elif faulty and page.status != 200:
            self._head(page.status, 0)
        else:
            self._content(page, asked, page.cut if faulty else None)

    do_HEAD = do_GET

    def _content(self, page: Page, asked: str, cut: int | None) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", asked)
        start, size = int(found[1]) if found and page.ranges else 0, len(page.content)
        headers = dict(page.headers)
        if start:
            if start >= size:
                self._head(416, 0, {"Content-Range": f"bytes */{size}"})
                return
            start += page.shift
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        body = page.content[start:]
        self._head(206 if start else 200, None if page.chunked else len(body), headers)
        if self.command == "HEAD":
            return
        part = body if cut is None else body[:cut]
        if page.chunked:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if cut is None:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(part)
        if cut is not None:
            self.wfile.flush()
            if page.stall:
                self.owner.closing.wait()
            self.close_connection = True

    def _head(self, status: int, length: int | None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests look at `Mirror.requests`."""


def forbid_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every attempt to use the network fail the test."""

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        pytest.fail(f"the network was used: {args}")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
