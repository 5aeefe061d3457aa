# SPDX-License-Identifier: MIT
"""Answers with status 200 that are not the file: web pages, compressed bodies, bodies without end."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.origins import http
from tasks.origins.http import download, download_unverified, fetch_text
from tasks.util.errors import UserError, WrongSha256
from tests.support.mirror import Mirror, Page

pytestmark = pytest.mark.usefixtures("direct")

CONTENT = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGES = {
    "plain": b"<html>please log in</html>",
    "doctype": b"\n <!DOCTYPE HTML>\n<html>please log in</html>",
    "byte order mark": b"\xef\xbb\xbf<!doctype html><p>please log in",
    "comment": b"<!-- portal\n 2 -->\n<HEAD><title>please log in</title>",
    "xhtml": b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x">',
    "script": b"<script>location = 'http://portal'</script>",
}
TYPED = Page(b"<p>please log in", headers={"Content-Type": "text/html; charset=utf-8"})


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as running:
        yield running


def locked(mirror: Mirror, final: Path, *names: str) -> None:
    urls = [f"{mirror.url}/{name}" for name in names or ("file",)]
    download(urls, final, sha256=SHA256, offline=False, label="kernel", delays=())


@pytest.mark.parametrize("page", [*map(Page, PAGES.values()), TYPED], ids=[*PAGES, "typed"])
def test_a_web_page_is_no_text_and_no_file(mirror: Mirror, tmp_path: Path, page: Page) -> None:
    mirror.pages["config"] = page
    url = f"{mirror.url}/config"
    said = f"config could not be downloaded: {url}: answered with a web page in place of the file"
    with pytest.raises(UserError) as text:
        fetch_text(url, label="config", delays=())
    with pytest.raises(UserError) as file:
        download_unverified([url], tmp_path / "config", label="config", delays=())
    assert text.value.message == file.value.message == said
    assert "login page" in file.value.hint
    assert list(tmp_path.iterdir()) == []
    assert len(mirror.requests) == 2


@pytest.mark.parametrize("content", [b"a.tcz\n<html>\n", b"<b>.tcz\n", b"<htmlish>", b""])
def test_a_text_that_only_looks_a_little_like_a_page_is_taken(mirror: Mirror, content: bytes) -> None:
    mirror.pages["a.dep"] = Page(content)
    assert fetch_text(f"{mirror.url}/a.dep", label="a.dep") == content.decode()


def test_a_text_called_a_page_by_the_server_is_taken(mirror: Mirror) -> None:
    """Some servers call every file without a known ending text/html."""
    mirror.pages["a.dep"] = Page(b"b.tcz\n", headers={"Content-Type": "text/html"})
    assert fetch_text(f"{mirror.url}/a.dep", label="a.dep") == "b.tcz\n"


def test_a_page_that_was_asked_for_is_taken(mirror: Mirror, tmp_path: Path) -> None:
    mirror.pages["index.html"] = Page(PAGES["doctype"])
    download_unverified([f"{mirror.url}/index.html"], tmp_path / "index.html", label="page", delays=())
    assert (tmp_path / "index.html").read_bytes() == PAGES["doctype"]


def test_a_login_page_does_not_cost_what_was_downloaded_before(mirror: Mirror, tmp_path: Path) -> None:
    final, part = tmp_path / "file", tmp_path / "file.part"
    mirror.pages["file"] = Page(CONTENT, cut=1 << 17, ranges=False)
    with pytest.raises(UserError, match="body cut short"):
        locked(mirror, final)
    before = part.read_bytes()
    assert len(before) == 1 << 17
    mirror.pages["file"] = Page(PAGES["plain"], ranges=False)
    with pytest.raises(UserError, match="answered with a web page"):
        locked(mirror, final)
    assert part.read_bytes() == before


def test_a_wrong_file_is_called_by_its_name(mirror: Mirror, tmp_path: Path) -> None:
    mirror.pages["file"] = Page(b"another")
    with pytest.raises(WrongSha256) as caught:
        locked(mirror, tmp_path / "file")
    found = hashlib.sha256(b"another").hexdigest()
    assert caught.value.message == (
        f"kernel: no mirror has the locked file: {mirror.url}/file: "
        f"wrong sha256: expected {SHA256}, got {found}"
    )
    assert list(tmp_path.glob("file*")) == []


def test_a_compressed_transfer_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    packed = Page(gzip.compress(b"CONFIG_X=y\n", mtime=0), headers={"Content-Encoding": "gzip"})
    mirror.pages |= {"config": packed, "a.gz": packed, "b.tgz": packed, "c.xz": packed}
    with pytest.raises(UserError, match=r"sent compressed \(Content-Encoding: gzip\)"):
        fetch_text(f"{mirror.url}/config", label="config", delays=())
    for name in ("config", "c.xz"):
        with pytest.raises(UserError, match=r"sent compressed \(Content-Encoding: gzip\)"):
            download_unverified([f"{mirror.url}/{name}"], tmp_path / name, label=name, delays=())
    # Many servers label a packed file by its own compression.
    for name in ("a.gz", "b.tgz"):
        download_unverified([f"{mirror.url}/{name}"], tmp_path / name, label=name, delays=())
        assert (tmp_path / name).read_bytes() == packed.content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gz", "b.tgz"]


def test_a_locked_file_in_a_compressed_transfer_is_named_so(mirror: Mirror, tmp_path: Path) -> None:
    """Its sha256 is wrong, too, but that is not the cause."""
    mirror.pages["file"] = Page(gzip.compress(CONTENT, mtime=0), headers={"Content-Encoding": "gzip"})
    with pytest.raises(UserError, match=r"sent compressed \(Content-Encoding: gzip\)") as caught:
        locked(mirror, tmp_path / "file")
    assert "wrong sha256" not in caught.value.message
    assert list(tmp_path.glob("file*")) == []


def test_a_file_that_is_too_large_leaves_no_part(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_BYTES", 100_000)
    mirror.pages["file"] = Page(CONTENT)
    mirror.pages["chunked"] = Page(CONTENT, chunked=True)
    with pytest.raises(UserError, match="sends more than 100,000 bytes"):
        locked(mirror, tmp_path / "file", "file", "chunked")
    assert list(tmp_path.glob("file*")) == []
