# SPDX-License-Identifier: MIT
"""Servers that send too slowly, or without end: each is left for the next mirror within its limits."""

from __future__ import annotations

import hashlib
import io
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.cache import store
from tasks.origins import http, http_limits
from tasks.origins.http import download, fetch_text
from tasks.origins.http_limits import Limits
from tasks.util.errors import UserError
from tests.support.mirror import Mirror, Page

pytestmark = pytest.mark.usefixtures("direct")

CONTENT = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()
# Short for a server without an end, and long enough for a sound one on a machine that does much else.
QUICK = Limits(head=1.0, least=20_000, window=0.4, total=30.0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT)
CONTINUE = b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# What a server sends at once, and then again and again after so many seconds.
ENDLESS = {
    "body": (HEAD, b"x", 0.01),
    "head": (b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.01),
    "continue": (b"", CONTINUE * 100, 0.0),
    "slow continue": (b"", CONTINUE, 0.01),
    "chunks": (CHUNKED, b"1\r\nx\r\n", 0.01),
    "chunk size": (CHUNKED, b"0", 0.01),
    "trailer": (CHUNKED + b"1\r\n\0\r\n0\r\n", b"a: b\r\n", 0.01),
}


@pytest.fixture
def sound() -> Iterator[Mirror]:
    with Mirror() as running:
        running.pages["file"] = Page(CONTENT)
        yield running


@contextmanager
def endless(kind: str) -> Iterator[str]:
    """Yield the address of a server that sends what `kind` names until its client goes away."""
    first, more, pause = ENDLESS[kind]
    closing = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(1 << 16)
                connection.sendall(first)
                while not closing.wait(pause):
                    connection.sendall(more)
            except OSError:
                pass

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/file"
        finally:
            closing.set()
            server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("kind", ENDLESS)
def test_the_next_mirror_has_the_file(kind: str, sound: Mirror, tmp_path: Path) -> None:
    final = tmp_path / "file"
    with endless(kind) as url:
        urls = [url, f"{sound.url}/file"]
        download(urls, final, sha256=SHA256, offline=False, label="x", delays=(), limits=QUICK)
    assert final.read_bytes() == CONTENT
    assert len(sound.requests) == (2 if kind == "chunks" else 1)  # first for the rest of wrong bytes


@pytest.mark.parametrize(
    "kind, said",
    [
        ("body", "slower than 100,000 bytes a second"),
        ("chunks", "slower than 100,000 bytes a second"),  # with new bytes in every round
        ("head", "no complete head of an answer within 0.2 s"),
        ("continue", "no complete head of an answer within 0.2 s"),
    ],
)
def test_one_that_is_alone_ends_in_a_line(kind: str, said: str, tmp_path: Path) -> None:
    limits = Limits(head=0.2, least=100_000, window=9 if kind in ("head", "continue") else 0.1, total=9)
    with endless(kind) as url, pytest.raises(UserError) as caught:
        download(
            [url], tmp_path / "file", sha256=SHA256, offline=False, label="x", delays=(0,), limits=limits
        )
    assert caught.value.message == f"x could not be downloaded: {url}: {said}"
    assert not (tmp_path / "file").exists()


def test_the_whole_download_has_a_limit(
    sound: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror brings new bytes in every round, so the rounds alone would not end it soon."""
    sound.pages["file"] = Page(CONTENT, cut=1000)
    clock = itertools.count(step=10.0)
    monkeypatch.setattr(http, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=time.sleep))
    with pytest.raises(UserError, match="body cut short"):
        download(
            [f"{sound.url}/file"],
            tmp_path / "file",
            sha256=SHA256,
            offline=False,
            label="x",
            delays=(0.02,),
            limits=Limits(total=60.0),
        )
    assert 1 < len(sound.requests) < 20
    assert 0 < (tmp_path / "file.part").stat().st_size < len(CONTENT)


@pytest.mark.parametrize("kind", ["body", "continue"])
def test_a_text_has_limits(kind: str) -> None:
    with endless(kind) as url, pytest.raises(UserError, match=f"{url}: (slower|no complete head)"):
        fetch_text(url, label="x", delays=(), limits=QUICK)


def test_the_time_between_reads_does_not_count() -> None:
    """A slow disk, or a process that was stopped, is no fault of the server."""
    metered = http_limits._Metered(_Instant(), Limits(least=100, window=0.01))
    for _ in range(3):
        assert metered.readinto(bytearray(1)) == 1
        time.sleep(0.02)


class _Instant(io.RawIOBase):
    def readinto(self, buffer: Any, /) -> int:
        return 1


@pytest.mark.parametrize(
    "answer, said",
    [
        (CHUNKED + b"-5\r\nabc", "malformed chunk"),
        (CHUNKED + b"-1\r\nabc", "malformed chunk"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc", "wrong sha256"),
    ],
)
def test_numbers_that_no_server_must_send(answer: bytes, said: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        with pytest.raises(UserError) as caught:
            download([url], tmp_path / "file", sha256=SHA256, offline=False, label="x", delays=())
    assert f"{url}: {said}" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("kind", ["body", "continue"])
def test_a_shared_cache_has_limits(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "FILE", QUICK)
    with endless(kind) as url, pytest.raises(store.Unreachable, match=r"slower|no complete head"):
        store.Http(url.rpartition("/")[0]).read("file", tmp_path / "file", 1 << 30)


def test_a_shared_cache_that_takes_a_file_too_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "FILE", Limits(least=1 << 40, window=0.05))
    source = tmp_path / "file"
    with source.open("wb") as stream:
        stream.truncate(1 << 28)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while connection.recv(1 << 16):
                    time.sleep(0.001)

        threading.Thread(target=serve, daemon=True).start()
        http_store = store.Http(f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(store.Unreachable, match="takes less than 1,099,511,627,776 bytes a second"):
            http_store.write("file", source)
