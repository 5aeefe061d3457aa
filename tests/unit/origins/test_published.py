# SPDX-License-Identifier: MIT
"""What others publish of a file decides what `./doit lock` takes from a mirror."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.origins import published
from tasks.origins.http import NotFound
from tasks.origins.lock import LockedFile
from tasks.origins.mirrors import Mirrors
from tasks.origins.published import OWN_MD5, Published
from tasks.util.errors import UserError, WrongSha256
from tests.support.mirror import Mirror, Page
from tests.support.tinycore import md5_text, real

PATH = "11.x/core.gz"
GOOD, BAD = b"the core", b"another core"
SHA256, MD5 = hashlib.sha256(GOOD).hexdigest(), hashlib.md5(GOOD).hexdigest()
BY_SHA256 = Published(PATH, ("A", "B"), sha256=SHA256)
BY_MD5 = Published(PATH, ("C",), md5=MD5)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def two() -> Iterator[tuple[Mirror, Mirror]]:
    with Mirror() as first, Mirror() as second:
        yield first, second


def pin(tmp_path: Path, known: Published | None, *mirrors: Mirror, path: str = PATH) -> LockedFile:
    urls = tuple(mirror.url for mirror in mirrors)
    return Mirrors(urls).pin(path, tmp_path / "cache", tmp_path / "scratch", known)


@pytest.mark.parametrize(
    ("known", "own_md5", "vouched", "by", "trust"),
    [
        (BY_SHA256, True, "sha256", ("A", "B"), "its sha256 is published by A, B"),
        (BY_MD5, False, "md5", ("C",), "md5 only, published by C"),
        (BY_MD5, True, "md5", ("C", OWN_MD5), f"md5 only, published by C, {OWN_MD5}"),
        (None, True, "md5", (OWN_MD5,), f"md5 only, published by {OWN_MD5}"),
        (None, False, "nobody", (), "nobody publishes a hash of it"),
    ],
)
def test_an_entry_says_what_vouches_for_the_file(
    tmp_path: Path,
    two: tuple[Mirror, Mirror],
    known: Published | None,
    own_md5: bool,
    vouched: str,
    by: tuple[str, ...],
    trust: str,
) -> None:
    two[0].pages[PATH] = Page(GOOD)
    if own_md5:
        two[0].pages[f"{PATH}.md5.txt"] = Page(md5_text("core.gz", GOOD))
    entry = pin(tmp_path, known, two[0])
    assert (entry.sha256, entry.vouched, entry.published_by) == (SHA256, vouched, by)
    assert entry.trust == trust
    assert entry.cached_in(tmp_path / "cache").read_bytes() == GOOD


def test_the_mirror_is_named_from_which_a_hash_is_learnt(
    tmp_path: Path, two: tuple[Mirror, Mirror], capsys: pytest.CaptureFixture[str]
) -> None:
    two[0].pages[PATH] = Page(GOOD)
    pin(tmp_path, None, two[0])
    assert f"lock: {PATH}: nobody publishes a hash of it; learnt now from http://127.0.0.1\n" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("known", [BY_SHA256, BY_MD5])
def test_a_mirror_with_another_file_is_left_for_the_next(
    tmp_path: Path, two: tuple[Mirror, Mirror], known: Published
) -> None:
    first, second = two
    first.pages |= {PATH: Page(BAD), f"{PATH}.md5.txt": Page(md5_text("core.gz", BAD))}
    second.pages[PATH] = Page(GOOD)
    assert pin(tmp_path, known, *two).sha256 == SHA256


@pytest.mark.parametrize(
    ("known", "error", "said"),
    [
        (BY_SHA256, WrongSha256, "no mirror has the file whose sha256 is published by A, B"),
        (BY_MD5, UserError, f"C published {MD5}"),
    ],
)
def test_no_mirror_can_talk_its_way_around_it(
    tmp_path: Path, two: tuple[Mirror, Mirror], known: Published, error: type[UserError], said: str
) -> None:
    for mirror in two:
        mirror.pages |= {PATH: Page(BAD), f"{PATH}.md5.txt": Page(md5_text("core.gz", BAD))}
    with pytest.raises(error, match=said):
        pin(tmp_path, known, *two)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix == ".gz"]


@pytest.mark.parametrize("known", [None, BY_MD5])
def test_a_mirror_with_another_file_is_named_though_the_next_has_none(
    tmp_path: Path, two: tuple[Mirror, Mirror], known: Published | None
) -> None:
    """For a file that no mirror has, a recipe of the name would be taken without a word."""
    own_md5 = GOOD if known is None else BAD
    two[0].pages |= {PATH: Page(BAD), f"{PATH}.md5.txt": Page(md5_text("core.gz", own_md5))}
    with pytest.raises(
        UserError, match=r"core\.gz could not be checked: http.* has md5 .*404 Not Found"
    ) as caught:
        pin(tmp_path, known, *two)
    assert not isinstance(caught.value, NotFound)


@pytest.mark.parametrize("known", [None, BY_SHA256, BY_MD5])
def test_a_missing_file_is_not_found(
    tmp_path: Path, two: tuple[Mirror, Mirror], known: Published | None
) -> None:
    with pytest.raises(NotFound):
        pin(tmp_path, known, *two)


def test_a_locked_file_gets_those_who_vouch_for_it() -> None:
    old = LockedFile(PATH, SHA256)
    assert published.checked(old, BY_SHA256) == LockedFile(PATH, SHA256, "sha256", ("A", "B"))
    assert published.checked(old, None) == published.checked(old, BY_MD5) == old
    assert published.checked(old, BY_MD5, MD5) == LockedFile(PATH, SHA256, "md5", ("C",))
    vouched = LockedFile(PATH, SHA256, "sha256", ("A", "B"))
    assert published.checked(vouched, None) == LockedFile(PATH, SHA256, "nobody")
    with pytest.raises(UserError, match=r"locked sha256 0{64} is not that which is published") as caught:
        published.checked(LockedFile(PATH, "0" * 64), BY_SHA256)
    assert "A, B" in caught.value.hint


def test_tiny_cores_own_files_are_those_of_the_published_lists(tmp_path: Path) -> None:
    """Real extensions of 11.x, served by a mirror on loopback, against the md5 of a public list."""
    from tasks.config import release

    folder = real("x86_64/tcz")
    with Mirror() as mirror:
        for path in folder.glob("*.tcz"):
            below = f"11.x/x86_64/tcz/{path.name}"
            mirror.pages[below] = Page(path.read_bytes())
            entry = pin(tmp_path, release.published()[below], mirror, path=below)
            assert (entry.vouched, entry.published_by) == ("md5", ("Ventoy's live CD",))
