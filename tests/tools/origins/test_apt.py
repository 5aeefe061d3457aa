# SPDX-License-Identifier: MIT
"""The real apt against a repository of tiny packages on the loopback interface."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.origins import apt
from tasks.origins.lock import Lock, LockedPackage
from tasks.util.errors import UserError
from tasks.util.process import run
from tests.support.mirror import Page
from tests.support.repository import Repository, serving

NOBODY = 65534


@pytest.fixture
def tmp_path(open_folder: Path) -> Path:
    """An ordinary user needs to get to the repository."""
    return open_folder


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with serving(tmp_path / "apt", monkeypatch) as made:
        yield made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def get(
    cache: Path, names: list[str], *pinned: LockedPackage, frozen: bool = False, offline: bool = False
) -> tuple[list[LockedPackage], list[str]]:
    """Fetch, check that every .deb is what it should be, return the packages and what was said."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        got = apt.fetch_packages(names, pinned=Lock(pinned), frozen=frozen, offline=offline, cache=cache)
    for package, deb in got:
        assert hashlib.sha256(deb.read_bytes()).hexdigest() == package.sha256
    return [package for package, _ in got], said.getvalue().splitlines()


def files_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


class TestNewest:
    @pytest.fixture(autouse=True)
    def kernels(self, repository: Repository) -> None:
        repository.add("linux-source-6.1", "6.1.9-1")
        repository.add("linux-source-6.12", "6.12.1-1~bpo1")
        repository.add("linux-source-6.9", "6.9.7-1")
        repository.add("linux-source", "6.99", depends="linux-source-6.12 (= 6.12.1-1~bpo1)")
        repository.publish()

    @pytest.mark.parametrize(
        "pattern, expected",
        [
            ("linux-source-[0-9]*", "linux-source-6.12"),  # not 6.9, which is last by the alphabet
            ("linux-source*", "linux-source-6.12"),  # not the metapackage, though its version is higher
            ("linux-source-6.?", "linux-source-6.9"),
            ("linux-source-6.1", "linux-source-6.1"),
            ("linux-source", "linux-source"),  # asked for by name, nothing else matches
        ],
    )
    def test_newest_by_version(self, pattern: str, expected: str) -> None:
        assert apt.newest(pattern)[0] == expected

    def test_nothing_matches(self) -> None:
        with pytest.raises(UserError, match=r"apt offers no package linux-source-7\*") as caught:
            apt.newest("linux-source-7*")
        assert "apt-get update" in caught.value.hint


def test_newest_of_several_versions(repository: Repository) -> None:
    repository.add("linux-source-6.1", "6.1.10-1")
    repository.add("linux-source-6.1", "6.1.9-1")
    repository.publish()
    assert apt.newest("linux-source-[0-9]*") == ("linux-source-6.1", "6.1.10-1")
    assert [offer.version for offer in apt.available_versions(["linux-source-6.1"])] == [
        "6.1.10-1",
        "6.1.9-1",
    ]


def test_packages_arrive_verified(repository: Repository, cache: Path) -> None:
    attr = repository.add("attr", "1:2.5-1")
    bzip2 = repository.add("bzip2", "1")
    repository.publish()
    got, said = get(cache, ["bzip2", "attr"])
    assert got == [attr, bzip2]
    assert files_in(cache) == ["attr_1%3a2.5-1.deb", "bzip2_1.deb"]
    assert said == ["apt: downloading 2 packages, 0.0 MB"]
    # Scratch folders are gone, too.
    assert {path.name for path in (cache / "downloads").iterdir()} == {attr.sha256[:16], bzip2.sha256[:16]}


def test_apt_is_quiet_about_its_sandbox(
    repository: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root in a folder that the user _apt cannot enter, apt-get download warns."""
    repository.add("attr", "1")
    repository.publish()
    folder = cache / "private"
    folder.mkdir(parents=True, mode=0o700)
    log = cache / "log"
    monkeypatch.setattr(apt, "run", lambda argv, **options: run(argv, **options, log=log))
    offer = apt.parse_offers(repository.records["attr", "1"], "all")[0]
    monkeypatch.setattr(apt, "available_versions", lambda names: [offer])
    monkeypatch.setattr(apt, "candidates", lambda names: {"attr": offer})
    apt.fetch_packages(["attr"], pinned=Lock(), frozen=False, offline=False, cache=folder)
    said = log.read_text()
    assert "Get:1" in said
    assert "W:" not in said


def test_second_time_only_what_is_missing_is_downloaded(repository: Repository, cache: Path) -> None:
    attr, bzip2 = repository.add("attr", "1"), repository.add("bzip2", "1")
    repository.publish()
    get(cache, ["attr"])
    repository.mirror.requests.clear()
    assert get(cache, ["attr", "bzip2"]) == ([attr, bzip2], ["apt: downloading 1 packages, 0.0 MB"])
    assert [request.path for request in repository.mirror.requests] == ["./bzip2_1_all.deb"]
    repository.mirror.requests.clear()
    assert get(cache, ["attr", "bzip2"]) == ([attr, bzip2], [])
    assert repository.mirror.requests == []


def test_damaged_deb_in_the_cache_is_replaced(repository: Repository, cache: Path) -> None:
    attr = repository.add("attr", "1")
    repository.publish()
    get(cache, ["attr"])
    attr.cached_in(cache).write_bytes(b"rotten")
    assert get(cache, ["attr"], attr)[0] == [attr]


def test_older_pinned_version_is_kept_while_it_is_offered(repository: Repository, cache: Path) -> None:
    old, new = repository.add("attr", "1"), repository.add("attr", "2")
    repository.publish()
    assert get(cache, ["attr"])[0] == [new]
    assert get(cache, ["attr"], old, frozen=True)[0] == [old]


def test_pinned_version_gone_moves_on_and_says_so(repository: Repository, cache: Path) -> None:
    new = repository.add("attr", "2")
    repository.publish()
    got, said = get(cache, ["attr"], LockedPackage("attr", "1", "0" * 64))
    assert got == [new]
    assert said[0] == "attr: 1 -> 2 (the locked version is no longer offered)"


def test_pinned_version_gone_never_moves_back(repository: Repository, cache: Path) -> None:
    """By Debian's order: 1:1 comes after 9."""
    repository.add("attr", "9")
    repository.publish()
    with pytest.raises(UserError, match="attr: apt offers 9, which is older than the locked 1:1") as caught:
        get(cache, ["attr"], LockedPackage("attr", "1:1", "0" * 64))
    assert "relock=1" in caught.value.hint
    assert not cache.exists()


def test_pinned_version_gone_but_cached_is_used(repository: Repository, cache: Path) -> None:
    old = repository.add("attr", "1")
    repository.publish()
    get(cache, ["attr"])
    del repository.records["attr", "1"]
    repository.add("attr", "2")
    repository.publish()
    assert get(cache, ["attr"], old) == ([old], [])


def test_pinned_version_gone_is_an_error_when_frozen(repository: Repository, cache: Path) -> None:
    repository.add("attr", "2")
    repository.publish()
    with pytest.raises(UserError, match="attr 1 is locked, but apt offers only 2") as caught:
        get(cache, ["attr"], LockedPackage("attr", "1", "0" * 64), frozen=True)
    assert "./doit lock" in caught.value.hint
    assert not cache.exists()


@pytest.mark.parametrize("frozen", [False, True])
def test_same_version_with_another_hash_is_an_error(
    repository: Repository, cache: Path, frozen: bool
) -> None:
    attr = repository.add("attr", "1")
    repository.publish()
    with pytest.raises(UserError) as caught:
        get(cache, ["attr"], LockedPackage("attr", "1", "0" * 64), frozen=frozen)
    assert caught.value.message == (f"attr 1: apt offers sha256 {attr.sha256}, the lock says {'0' * 64}")
    assert caught.value.hint
    assert not cache.exists()


def test_unknown_package(repository: Repository, cache: Path) -> None:
    repository.add("attr", "1")
    repository.publish()
    with pytest.raises(UserError, match="apt offers no package atr"):
        get(cache, ["attr", "atr"])


@pytest.mark.parametrize("ask", ["newest", "fetch"])
def test_without_package_lists_the_hint_is_to_get_them(repository: Repository, cache: Path, ask: str) -> None:
    with pytest.raises(UserError, match="apt has no package lists yet") as caught:
        if ask == "newest":
            apt.newest("linux-source-[0-9]*")
        else:
            get(cache, ["attr"])
    assert caught.value.hint == "apt-get update"


def test_changed_deb_on_the_mirror_is_refused_by_apt(repository: Repository, cache: Path) -> None:
    repository.add("attr", "1")
    repository.publish()
    repository.mirror.pages["./attr_1_all.deb"] = Page(b"evil" * 100)
    with pytest.raises(UserError, match="apt-get failed") as caught:
        get(cache, ["attr"])
    assert "attr" in caught.value.detail
    assert files_in(cache) == []


def test_deb_gone_from_the_mirror(repository: Repository, cache: Path) -> None:
    repository.add("attr", "1")
    repository.publish()
    del repository.mirror.pages["./attr_1_all.deb"]
    with pytest.raises(UserError, match="apt-get failed") as caught:
        get(cache, ["attr"])
    assert "404" in caught.value.detail
    assert "apt-get update" in caught.value.hint
    assert files_in(cache) == []


def test_unsigned_repository_is_not_trusted(repository: Repository, cache: Path) -> None:
    repository.trust("allow-insecure=yes")
    repository.add("attr", "1")
    repository.publish()
    with pytest.raises(UserError, match="apt-get failed") as caught:
        get(cache, ["attr"])
    assert "could not be authenticated" in caught.value.detail
    assert files_in(cache) == []


def test_installed_package_that_no_source_offers(repository: Repository, cache: Path) -> None:
    """apt prefers the installed, newer version, but there is nothing to download."""
    attr = repository.add("attr", "1")
    (repository.folder / "status").write_text(
        "Package: attr\nStatus: install ok installed\nVersion: 9\nArchitecture: all\n"
        "Maintainer: Nobody <n@invalid>\nDescription: made up\n"
    )
    repository.publish()
    assert get(cache, ["attr"])[0] == [attr]


def test_apts_preferences_are_respected(repository: Repository, cache: Path) -> None:
    old = repository.add("attr", "1")
    repository.add("attr", "2")
    (repository.folder / "preferences").write_text("Package: attr\nPin: version 1\nPin-Priority: 900\n")
    repository.publish()
    assert get(cache, ["attr"])[0] == [old]


def as_nobody(work: Callable[[], object]) -> int:
    """Do `work` in a child process without root's rights; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            status = 0
        except BaseException as error:
            print(error, flush=True)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_works_for_an_ordinary_user(repository: Repository, tmp_path: Path) -> None:
    attr = repository.add("attr", "1")
    repository.publish()
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, NOBODY, NOBODY)
    assert as_nobody(lambda: get(cache, ["attr"])) == 0
    assert attr.cached_in(cache).stat().st_uid == NOBODY
