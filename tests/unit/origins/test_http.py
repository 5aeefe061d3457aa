# SPDX-License-Identifier: MIT
"""Downloads from mirrors that behave, and from mirrors that do not."""

from __future__ import annotations

import gzip
import hashlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.origins import http
from tasks.origins.http import download
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.progress import Progress
from tests.support.mirror import Mirror, Page, forbid_sockets

pytestmark = pytest.mark.usefixtures("direct")

CONTENT = bytes(range(256)) * 1200  # several blocks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as running:
        running.pages["file"] = Page(CONTENT)
        yield running


@pytest.fixture
def other() -> Iterator[Mirror]:
    with Mirror() as running:
        running.pages["file"] = Page(CONTENT)
        yield running


@pytest.fixture
def final(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "file"


def get(final: Path, *mirrors: Mirror, offline: bool = False, **options: Any) -> None:
    urls = [f"{mirror.url}/file" for mirror in mirrors]
    options = {"delays": (0.0, 0.0), "timeout": (2.0, 2.0)} | options
    download(urls, final, sha256=SHA256, offline=offline, label="kernel", **options)


def fails(final: Path, *mirrors: Mirror, **options: Any) -> UserError:
    """Download, expect it to fail, and check that nothing has the final name."""
    with pytest.raises(UserError) as caught:
        get(final, *mirrors, **options)
    assert not final.exists()
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def part_of(final: Path, content: bytes, sha256: str = SHA256) -> Path:
    """Leave a part behind as an interrupted download does."""
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(final.name + ".part")
    part.write_bytes(content)
    part.with_name(part.name + ".sha256").write_text(sha256 + "\n")
    return part


def visible(final: Path) -> list[str]:
    return sorted(path.name for path in final.parent.iterdir() if not path.name.startswith("."))


def test_file_arrives_whole_and_leaves_nothing_else(mirror: Mirror, final: Path) -> None:
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert visible(final) == ["file"]


def test_file_that_is_there_opens_no_socket(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_sockets(monkeypatch)
    final.parent.mkdir()
    final.write_bytes(CONTENT)
    download(["http://mirror.invalid/file"], final, sha256=SHA256, offline=False, label="kernel")
    assert final.read_bytes() == CONTENT


def test_socket_guard_guards(mirror: Mirror, final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = mirror.url
    forbid_sockets(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="network was used"):
        download([f"{url}/file"], final, sha256=SHA256, offline=False, label="kernel")


@pytest.mark.parametrize("whole_part", [False, True])
def test_offline_takes_the_cache(final: Path, monkeypatch: pytest.MonkeyPatch, whole_part: bool) -> None:
    """A part that is the whole file (the program was killed before the rename) counts as the file."""
    forbid_sockets(monkeypatch)
    part = part_of(final, CONTENT)
    if not whole_part:
        part.rename(final)
    download(["http://mirror.invalid/file"], final, sha256=SHA256, offline=True, label="kernel")
    assert final.read_bytes() == CONTENT


def test_offline_without_the_file_says_so(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_sockets(monkeypatch)
    with pytest.raises(UserError, match="kernel: file is not in the cache, and offline=1") as caught:
        download(["http://mirror.invalid/file"], final, sha256=SHA256, offline=True, label="kernel")
    assert "offline=1" in caught.value.hint
    assert not final.parent.exists()


def test_offline_with_a_damaged_file_says_so(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_sockets(monkeypatch)
    final.parent.mkdir()
    final.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="file in the cache is damaged"):
        download(["http://mirror.invalid/file"], final, sha256=SHA256, offline=True, label="kernel")


def test_damaged_file_is_fetched_anew(mirror: Mirror, final: Path) -> None:
    final.parent.mkdir()
    final.write_bytes(b"rotten")
    get(final, mirror)
    assert final.read_bytes() == CONTENT


def test_wrong_content_sends_it_to_the_next_mirror(mirror: Mirror, other: Mirror, final: Path) -> None:
    mirror.pages["file"] = Page(b"<html>please log in</html>")
    get(final, mirror, other)
    assert final.read_bytes() == CONTENT


def test_wrong_content_everywhere_names_both_hashes(mirror: Mirror, other: Mirror, final: Path) -> None:
    wrong = b"another file"
    mirror.pages["file"] = other.pages["file"] = Page(wrong)
    error = fails(final, mirror, other)
    assert f"expected {SHA256}, got {hashlib.sha256(wrong).hexdigest()}" in error.message
    assert "file.part" not in visible(final)
    assert len(mirror.requests) == len(other.requests) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_cut_body_is_continued_where_it_broke(mirror: Mirror, final: Path, chunked: bool) -> None:
    mirror.pages["file"] = Page(CONTENT, cut=HALF, times=1, chunked=chunked)
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert [request.range for request in mirror.requests] == ["", f"bytes={HALF}-"]


def test_cut_body_is_continued_at_the_next_mirror(mirror: Mirror, other: Mirror, final: Path) -> None:
    mirror.pages["file"] = Page(CONTENT, cut=HALF)
    get(final, mirror, other)
    assert final.read_bytes() == CONTENT
    assert [request.range for request in other.requests] == [f"bytes={HALF}-"]


def test_mirror_that_always_cuts_brings_the_file_in_pieces(mirror: Mirror, final: Path) -> None:
    mirror.pages["file"] = Page(CONTENT, cut=len(CONTENT) // 8)
    get(final, mirror, delays=(0.0,))
    assert final.read_bytes() == CONTENT


def test_mirror_that_stands_still_is_given_up(mirror: Mirror, final: Path) -> None:
    mirror.pages["file"] = Page(CONTENT, cut=HALF, ranges=False)
    error = fails(final, mirror)
    assert "body cut short" in error.message
    assert "continues" in error.hint
    assert len(mirror.requests) == 4  # one with new bytes, then one per round


def test_cut_is_seen_without_the_library_saying_so(
    mirror: Mirror, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib3 before 2.0 does not compare the body with Content-Length."""
    monkeypatch.setattr("urllib3.response.HTTPResponse._init_length", lambda self, method: None)
    mirror.pages["file"] = Page(CONTENT, cut=HALF, times=1)
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert [request.range for request in mirror.requests] == ["", f"bytes={HALF}-"]


def test_earlier_part_is_continued(mirror: Mirror, final: Path) -> None:
    part_of(final, CONTENT[:1000])
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert [request.range for request in mirror.requests] == ["bytes=1000-"]
    assert visible(final) == ["file"]


def test_part_of_another_file_is_thrown_away(mirror: Mirror, final: Path) -> None:
    part_of(final, CONTENT[:1000], sha256="0" * 64)
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert [request.range for request in mirror.requests] == [""]


def test_server_that_ignores_range_sends_all_anew(mirror: Mirror, final: Path) -> None:
    part_of(final, CONTENT[:1000])
    mirror.pages["file"].ranges = False
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert [request.range for request in mirror.requests] == ["bytes=1000-"]


def test_part_longer_than_the_file_is_thrown_away(mirror: Mirror, final: Path) -> None:
    """The server answers 416: there is nothing after that offset."""
    part_of(final, CONTENT + b"more")
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert [request.range for request in mirror.requests] == [f"bytes={len(CONTENT) + 4}-", ""]


def test_wrong_beginning_is_thrown_away(mirror: Mirror, final: Path) -> None:
    """The part came from a bad mirror: the good one is asked again, from the start."""
    part_of(final, b"x" * 1000)
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert [request.range for request in mirror.requests] == ["bytes=1000-", ""]


def test_range_that_was_not_asked_for_is_not_used(
    mirror: Mirror, final: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part_of(final, CONTENT[:1000])
    mirror.pages["file"].shift = 5
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert "answered with another range than the requested one" in capsys.readouterr().out


def test_absent_everywhere_is_one_line_with_every_answer(mirror: Mirror, other: Mirror, final: Path) -> None:
    mirror.pages.clear()
    other.pages["file"] = Page(status=403)
    error = fails(final, mirror, other)
    assert f"{mirror.url}/file: 404 Not Found; {other.url}/file: 403 Forbidden" in error.message
    assert "mirrors" in error.hint
    assert len(mirror.requests) == len(other.requests) == 1


def test_passing_trouble_is_waited_for_longer_each_time(
    mirror: Mirror, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    mirror.pages["file"] = Page(CONTENT, status=503, times=3)
    get(final, mirror, delays=http.DELAYS)
    assert final.read_bytes() == CONTENT
    assert waited == list(http.DELAYS)
    assert sorted(set(waited)) == waited


def test_lasting_trouble_ends(mirror: Mirror, final: Path) -> None:
    mirror.pages["file"] = Page(status=500)
    error = fails(final, mirror)
    assert "500 Internal Server Error" in error.message
    assert len(mirror.requests) == 3


@pytest.mark.parametrize(
    "page", [Page(CONTENT, wait=60), Page(CONTENT, cut=HALF, stall=True)], ids=["silent", "stalls"]
)
def test_slow_mirror_is_left_for_the_next(mirror: Mirror, other: Mirror, final: Path, page: Page) -> None:
    mirror.pages["file"] = page
    get(final, mirror, other, timeout=(2.0, 0.2))
    assert final.read_bytes() == CONTENT
    assert len(other.requests) == 1


def test_redirect_is_followed(mirror: Mirror, other: Mirror, final: Path) -> None:
    mirror.pages["file"] = Page(location=f"{other.url}/moved")
    other.pages["moved"] = Page(CONTENT)
    get(final, mirror)
    assert final.read_bytes() == CONTENT


def test_redirect_in_a_circle_ends(mirror: Mirror, final: Path) -> None:
    mirror.pages["file"] = Page(location=f"{mirror.url}/file")
    assert "redirects" in fails(final, mirror).message


def test_unreachable_and_nonsense_mirrors_are_named(final: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    urls = [f"http://127.0.0.1:{port}/file", "ftp://127.0.0.1/file", "file"]
    with pytest.raises(UserError) as caught:
        download(urls, final, sha256=SHA256, offline=False, label="kernel", delays=())
    assert f"{urls[0]}: connection refused; {urls[1]}: neither http:// nor https://" in caught.value.message
    assert "HTTPConnectionPool" not in caught.value.message


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "connection closed without an answer"),
        (b"RESET", "connection reset"),
        (b"WAIT", "timed out"),
        (CHUNKED + b"5\r\nabc", "body cut short"),
        (CHUNKED, "body cut short"),
        (CHUNKED + b"no number\r\nabc", "body cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "body cut short"),
    ],
)
def test_what_a_broken_connection_is_called(
    answer: bytes, said: str, final: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                if answer == b"RESET":  # socket(7), SO_LINGER: closed without waiting, so by a reset
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif answer == b"WAIT":
                    connection.recv(1)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        with pytest.raises(UserError):
            download([url], final, sha256=SHA256, offline=False, label="x", delays=(), timeout=(0.5, 0.5))
        thread.join()
    assert f"x: {url}: {said}\n" in capsys.readouterr().out


def test_a_name_that_does_not_resolve_and_a_proxy_that_does_not_answer(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def said() -> str:
        with pytest.raises(UserError) as caught:
            download(["http://mirror.invalid/x"], final, sha256=SHA256, offline=False, label="x", delays=())
        return caught.value.message

    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    assert "mirror.invalid/x: proxy does not answer" in said()

    def unknown(*args: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.delenv("http_proxy")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "mirror.invalid/x: host name not found" in said()


def test_no_mirror(final: Path) -> None:
    assert "no mirror" in fails(final).message


def test_packed_file_is_kept_as_it_is(mirror: Mirror, final: Path) -> None:
    """Some servers label a .gz file as a compressed transfer; it must not be unpacked on the way."""
    packed = gzip.compress(CONTENT, mtime=0)
    mirror.pages["file"] = Page(packed, headers={"Content-Encoding": "gzip"})
    digest = hashlib.sha256(packed).hexdigest()
    download([f"{mirror.url}/file"], final, sha256=digest, offline=False, label="core")
    assert final.read_bytes() == packed


def test_full_disk_is_no_fault_of_the_mirror(mirror: Mirror, final: Path) -> None:
    part = part_of(final, b"")
    part.unlink()
    part.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        get(final, mirror)
    assert not final.exists()
    assert len(mirror.requests) == 1


def test_interrupt_leaves_a_part_to_continue(
    mirror: Mirror, final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Progress, count: int = 1) -> None:
        if count:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            get(final, mirror)
    assert not final.exists()
    get(final, mirror)
    assert final.read_bytes() == CONTENT
    assert [request.range for request in mirror.requests] == ["", f"bytes={http.BLOCK}-"]


def test_ctrl_c_of_a_real_process(mirror: Mirror, final: Path) -> None:
    mirror.pages["file"] = Page(CONTENT, cut=HALF, stall=True)
    script = (
        "import sys; from pathlib import Path\n"
        "from tasks.origins.http import download; from tasks.util.errors import install_signal_handlers\n"
        "install_signal_handlers()\n"
        f"download([sys.argv[1]], Path(sys.argv[2]), sha256={SHA256!r}, offline=False, label='kernel')\n"
    )
    part = final.with_name("file.part")
    process = subprocess.Popen(
        [sys.executable, "-c", script, f"{mirror.url}/file", str(final)],
        cwd=CHECKOUT.root,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "interrupted" in said
    assert not final.exists()
    assert CONTENT.startswith(part.read_bytes())
    mirror.pages["file"] = Page(CONTENT)
    get(final, mirror)
    assert mirror.requests[-1].range.startswith("bytes=")


def test_two_at_once_download_it_once(mirror: Mirror, final: Path) -> None:
    mirror.pages["file"] = Page(CONTENT, wait=0.2)
    threads = [threading.Thread(target=get, args=(final, mirror)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert final.read_bytes() == CONTENT
    assert len(mirror.requests) == 1


def test_ci_gets_plain_lines(
    mirror: Mirror, final: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tasks.util.progress.PLAIN_SECONDS", 0.0)
    get(final, mirror)
    said = capsys.readouterr()
    assert "of 307kB after" in said.out
    assert "\r" not in said.out + said.err


def test_terminal_gets_a_bar(
    mirror: Mirror, final: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tasks.util.progress.in_ci", lambda: False)
    get(final, mirror)
    assert "kernel" in capsys.readouterr().err
