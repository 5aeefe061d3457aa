# SPDX-License-Identifier: MIT
"""Where a mirror may send a download, and where not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.fetch import mirror_probe
from tasks.origins import http, http_session
from tasks.origins.kinds import AnyOrigin
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tests.support.mirror import Mirror, Page

CONTENT = b"what the mirror has" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HERE = "https://good.example/a/file"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("CI", "1")


@pytest.fixture
def mirrors() -> Iterator[tuple[Mirror, Mirror]]:
    """The first sends to the second, under another host name of this machine."""
    with Mirror() as one, Mirror() as two:
        one.pages["file"] = Page(location=f"{elsewhere(two)}/file")
        two.pages["file"] = Page(CONTENT)
        yield one, two


def elsewhere(mirror: Mirror) -> str:
    return mirror.url.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize(
    "here, target, listed, why",
    [
        (HERE, "https://good.example/b", (), ""),
        (HERE, "https://GOOD.example:444/b", (), ""),
        ("http://good.example/", "https://good.example/", (), ""),
        (HERE, "https://other.example/b", (), "another host, https://other.example; list other.example"),
        (HERE, "https://sub.good.example/b", (), "another host"),
        (HERE, "https://good.example.evil/b", (), "another host"),
        (HERE, "https://good.example@evil/b", (), "another host, https://evil;"),
        (HERE, "https://Other.example/b", ("other.EXAMPLE",), ""),
        (HERE, "http://good.example/b", (), "from https to http://good.example"),
        (HERE, "http://good.example/b", ("good.example",), "from https to http://good.example"),
        (HERE, "http://good.example/b", ("http://good.example",), ""),
        (HERE, "http://other.example/b", ("other.example",), "from https"),
        ("http://good.example/", "http://other.example/b", ("other.example",), ""),
        (HERE, "ftp://good.example/b", (), "to a ftp address"),
        (HERE, "file:///etc/passwd", (), "to a file address"),
        (HERE, "https:///b", (), "to a https address"),
        (HERE, "https://[bad/b", (), "malformed address"),
    ],
)
def test_refusal(here: str, target: str, listed: tuple[str, ...], why: str) -> None:
    said = http_session.refusal(here, target, listed)
    assert bool(said) == bool(why)
    assert why in said


def test_what_may_be_a_password_is_not_told() -> None:
    said = http_session.refusal(HERE, "https://user:hush@other.example/file?token=hush", ())
    assert "hush" not in said


def test_another_host_is_refused_at_once(mirrors: tuple[Mirror, Mirror], tmp_path: Path) -> None:
    one, two = mirrors
    final = tmp_path / "cache/file"
    with pytest.raises(UserError, match="another host, http://localhost") as caught:
        http.download([f"{one.url}/file"], final, sha256=SHA256, offline=False, label="kernel")
    assert "`redirects`" in caught.value.hint
    assert (len(one.requests), len(two.requests)) == (1, 0)
    assert not final.exists()


def test_the_next_mirror_is_asked(mirrors: tuple[Mirror, Mirror], tmp_path: Path) -> None:
    one, two = mirrors
    urls = [f"{one.url}/file", f"{two.url}/file"]
    http.download(urls, tmp_path / "file", sha256=SHA256, offline=False, label="kernel")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_listed_host_is_followed(mirrors: tuple[Mirror, Mirror], tmp_path: Path) -> None:
    urls, listed = [f"{mirrors[0].url}/file"], ("localhost",)
    http.download(urls, tmp_path / "file", sha256=SHA256, offline=False, label="kernel", redirects=listed)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_learning_follows_no_more(mirrors: tuple[Mirror, Mirror], tmp_path: Path) -> None:
    url = f"{mirrors[0].url}/file"
    with pytest.raises(UserError, match="another host"):
        http.download_unverified([url], tmp_path / "file", label="kernel")
    with pytest.raises(UserError, match="another host"):
        http.fetch_text(url, label="kernel")
    assert list(tmp_path.iterdir()) == []
    assert len(mirrors[0].requests) == 2  # neither tries again
    http.download_unverified([url], tmp_path / "file", label="kernel", redirects=("localhost",))
    assert http.fetch_text(url, label="kernel", redirects=("localhost",)) == CONTENT.decode()


def test_probe_follows_no_more(mirrors: tuple[Mirror, Mirror]) -> None:
    urls = [f"{mirrors[0].url}/file"]
    assert mirror_probe.first_answer(urls, 5.0) is None
    assert mirror_probe.first_answer(urls, 5.0, ("localhost",)) == 0


def test_body_of_a_redirect_is_not_read(mirrors: tuple[Mirror, Mirror], tmp_path: Path) -> None:
    """One that never ends would fill the memory."""
    mirrors[0].pages["file"] = Page(
        location=f"{mirrors[1].url}/file", headers={"Content-Length": "9999999999"}
    )
    urls = [f"{mirrors[0].url}/file"]
    http.download(urls, tmp_path / "file", sha256=SHA256, offline=False, label="kernel")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("location", ["http://[bad/", "http://:99999999/", "//"])
def test_nonsense_is_an_answer_like_any_other(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path, location: str
) -> None:
    mirrors[0].pages["file"] = Page(location=location)
    with pytest.raises(UserError, match="could not be downloaded"):
        http.download([f"{mirrors[0].url}/file"], tmp_path / "f", sha256=SHA256, offline=False, label="k")


def test_a_mirror_that_sends_without_end_is_left(
    mirrors: tuple[Mirror, Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_BYTES", len(CONTENT) - 1)
    with pytest.raises(UserError, match="sends more than"):
        http.download_unverified([f"{mirrors[1].url}/file"], tmp_path / "file", label="kernel")
    assert len(mirrors[1].requests) == 1


@pytest.mark.parametrize("host", ["https://a.example", "a.example/path", "*.example", "user@host", ""])
def test_only_hosts_can_be_listed(host: str) -> None:
    data = {"kind": "archive", "version": "1", "urls": ["https://h/f.tar"], "redirects": [host]}
    with pytest.raises(UserError, match="redirects: expected HOST"):
        toml_schema.build(data, AnyOrigin, "recipe.toml", "")
