# SPDX-License-Identifier: MIT
"""Limits for the answers of http servers: one that sends too slowly, or without end, holds no run.

The timeouts of requests bound only the wait for the next byte.  So a server that sends a byte a
second, in the head or in the body, would hold a run for ever, and so would one that sends
`100 Continue` again and again (RFC 9110, section 15.2: a client reads on after each).  The adapter
here measures every read of the connection, whatever is read.
"""

from __future__ import annotations

import functools
import http.client
import io
import os
import socket
import time
from dataclasses import dataclass
from typing import IO, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter


@dataclass(frozen=True)
class Limits:
    """Limits for one answer.

    head: seconds until its head is complete; total: until its end.  least: bytes per second, on
    average over each `window` seconds of reading.  The time between reads does not count there:
    a slow disk, or a stopped process, is no fault of the server.
    """

    head: float = 60.0
    least: int = 1000
    window: float = 60.0
    total: float = 6 * 3600.0


FILE = Limits()
# A list of dependencies, a checksum: see TEXT_LIMIT in tasks/origins/http.py.
TEXT = Limits(total=300.0)


class TooSlow(OSError):
    """A server exceeded a limit; the text says which."""


class MalformedBody(http.client.HTTPException):
    """The framing of a body is wrong; the text says how."""


class _Metered(io.RawIOBase):
    """A connection's stream of bytes.  Its reads raise `TooSlow` if an answer exceeds `limits`."""

    def __init__(self, stream: io.RawIOBase, limits: Limits) -> None:
        self.stream, self.limits = stream, limits
        self.in_head = True
        self.begun = time.monotonic()
        self.read_seconds = 0.0
        self.received = 0

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()

    def readinto(self, buffer: Any) -> int | None:
        before = time.monotonic()
        count = self.stream.readinto(buffer)
        now, limits = time.monotonic(), self.limits
        self.read_seconds += now - before
        self.received += count or 0
        if self.in_head and now - self.begun > limits.head:
            raise TooSlow(f"no complete head of an answer within {limits.head:g} s")
        if now - self.begun > limits.total:
            raise TooSlow(f"not complete within {limits.total:g} s")
        if self.read_seconds > limits.window:
            if self.received < limits.least * self.read_seconds:
                raise TooSlow(f"slower than {limits.least:,} bytes a second")
            self.read_seconds, self.received = 0.0, 0
        return int(count or 0)

    def close(self) -> None:
        self.stream.close()
        super().close()


class _Reader(io.BufferedReader):
    """The buffer before a `_Metered`; it refuses the boundless read that a malformed chunk leads to."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size < 0:  # urllib3 takes a chunk's size `-1` as a number
            raise MalformedBody("malformed chunk")
        return super().read(size)


class _Answer(http.client.HTTPResponse):
    """An answer that is read within limits."""

    def __init__(self, sock: socket.socket, *args: Any, limits: Limits, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        stream: Any = self.fp
        self._metered = _Metered(stream.detach(), limits)
        self.fp = _Reader(self._metered)

    def begin(self) -> None:
        super().begin()
        self._metered.in_head = False


class Upload:
    """A file as the body of a request.  Its reads raise `TooSlow` if the server takes it too slowly."""

    def __init__(self, stream: IO[bytes], limits: Limits) -> None:
        self.stream, self.limits = stream, limits
        self.size = os.fstat(stream.fileno()).st_size
        self.begun = self.since = time.monotonic()
        self.sent = 0

    def __len__(self) -> int:
        return self.size

    def read(self, size: int = -1) -> bytes:
        now, limits = time.monotonic(), self.limits
        if now - self.begun > limits.total:
            raise TooSlow(f"not sent within {limits.total:g} s")
        if now - self.since > limits.window:
            if self.sent < limits.least * (now - self.since):
                raise TooSlow(f"takes less than {limits.least:,} bytes a second")
            self.since, self.sent = now, 0
        block = self.stream.read(size)
        self.sent += len(block)
        return block


class LimitedAdapter(HTTPAdapter):
    """An adapter for `requests.Session.mount` whose answers are read within `limits`.

    What exceeds one ends as an error of requests or urllib3 that has `TooSlow` among its causes.
    """

    def __init__(self, limits: Limits) -> None:
        self._pools = _pool_classes(limits)
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


def limit(session: requests.Session, limits: Limits) -> None:
    """Let `session` read all answers within `limits`."""
    adapter = LimitedAdapter(limits)
    session.mount("http://", adapter)
    session.mount("https://", adapter)


def _pool_classes(limits: Limits) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    answer: Any = staticmethod(functools.partial(_Answer, limits=limits))

    class Connection(urllib3.connection.HTTPConnection):
        response_class = answer

    class TlsConnection(urllib3.connection.HTTPSConnection):
        response_class = answer

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    class TlsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    return {"http": Pool, "https": TlsPool}
