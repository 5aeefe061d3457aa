# SPDX-License-Identifier: MIT
"""What apt says, read; and packages that need no apt because they are in the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tasks.origins import apt
from tasks.origins.lock import Lock, LockedPackage
from tasks.util.errors import UserError
from tests.support.mirror import forbid_sockets

RECORDS = f"""\
Package: attr
Version: 1:2.5.1-4
Architecture: amd64
Depends: libattr1 (= 1:2.5.1-4), libc6 (>= 2.33) | libc6.1, debconf:any
Description: utilities for
 manipulating filesystem
 Version: 9.9 (a continuation line, not a field)
Filename: pool/main/a/attr/attr_2.5.1-4_amd64.deb
Size: 41172
MD5sum: 0123
SHA256: {"a" * 64}

Package: attr
Version: 1:2.4.0-1
Architecture: amd64
Filename: pool/main/a/attr/attr_2.4.0-1_amd64.deb
Size: 1
SHA256: {"b" * 64}

Package: local
Version: 3
Architecture: amd64
Status: install ok installed

Package: foreign
Version: 3
Architecture: i386
Filename: pool/f.deb
SHA256: {"c" * 64}

Package: linux-source
Version: 6.1.1-1
Architecture: all
Filename: pool/l.deb
SHA256: {"d" * 64}
"""


def test_records_of_apt_cache_are_read() -> None:
    assert apt.parse_offers(RECORDS, "amd64") == [
        apt.Offer("attr", "1:2.5.1-4", "a" * 64, 41172, ("libattr1", "libc6", "libc6.1", "debconf")),
        apt.Offer("attr", "1:2.4.0-1", "b" * 64, 1),
        apt.Offer("linux-source", "6.1.1-1", "d" * 64, 0),
    ]


def test_architecture_of_the_machine_is_taken() -> None:
    assert [offer.name for offer in apt.parse_offers(RECORDS, "i386")] == ["foreign", "linux-source"]


@pytest.mark.parametrize("text", ["", "\n\n", "N: Unable to locate package x\n"])
def test_nothing_said_is_nothing_offered(text: str) -> None:
    assert apt.parse_offers(text, "amd64") == []


@pytest.fixture(autouse=True)
def no_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may use neither apt nor the network."""

    def refuse(argv: list[str], **options: Any) -> NoReturn:
        pytest.fail(f"{argv} was run")

    monkeypatch.setattr(apt, "run", refuse)
    forbid_sockets(monkeypatch)


def cached(cache: Path, name: str, content: bytes = b"deb", version: str = "1:1-1") -> LockedPackage:
    package = LockedPackage(name, version, hashlib.sha256(content).hexdigest())
    path = package.cached_in(cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return package


def fetch(
    cache: Path, names: list[str], *pinned: LockedPackage, frozen: bool = False, offline: bool = False
) -> list[tuple[LockedPackage, Path]]:
    return apt.fetch_packages(names, pinned=Lock(pinned), frozen=frozen, offline=offline, cache=cache)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("offline", [False, True])
def test_pinned_packages_in_the_cache_need_no_apt(tmp_path: Path, frozen: bool, offline: bool) -> None:
    one, two = cached(tmp_path, "b-one", b"1"), cached(tmp_path, "a-two", b"2")
    got = fetch(tmp_path, ["b-one", "a-two", "b-one"], one, two, frozen=frozen, offline=offline)
    assert got == [(two, two.cached_in(tmp_path)), (one, one.cached_in(tmp_path))]


def test_no_packages_need_no_apt(tmp_path: Path) -> None:
    assert fetch(tmp_path, []) == []
    assert apt.available_versions([]) == []
    assert apt.candidates([]) == {}


def test_offline_names_all_that_is_missing(tmp_path: Path) -> None:
    have = cached(tmp_path, "have")
    lost = LockedPackage("lost", "1", "0" * 64)
    with pytest.raises(UserError, match=r"not in the cache.*: lost, unlocked\n") as caught:
        fetch(tmp_path, ["have", "lost", "unlocked"], have, lost, offline=True)
    assert "offline=1" in caught.value.hint


def test_damaged_deb_is_not_in_the_cache(tmp_path: Path) -> None:
    package = cached(tmp_path, "rotten")
    assert apt.is_cached(package, tmp_path)
    package.cached_in(tmp_path).write_bytes(b"de")
    assert not apt.is_cached(package, tmp_path)
    with pytest.raises(UserError, match="not in the cache"):
        fetch(tmp_path, ["rotten"], package, offline=True)


def test_frozen_refuses_what_is_not_locked(tmp_path: Path) -> None:
    have = cached(tmp_path, "have")
    with pytest.raises(UserError, match=r"no version is locked for more, other\n") as caught:
        fetch(tmp_path, ["other", "have", "more"], have, frozen=True)
    assert caught.value.hint == "./doit lock"


@pytest.mark.parametrize(
    "arrived, expected",
    [("attr_2_all.deb", "attr 2: expected sha256 0000.*, got "), ("attr-x_2_all.deb", "downloaded no attr")],
)
def test_deb_that_is_not_what_apt_said_is_not_kept(tmp_path: Path, arrived: str, expected: str) -> None:
    (tmp_path / arrived).write_bytes(b"another deb")
    with pytest.raises(UserError, match=expected):
        apt._store(apt.Offer("attr", "2", "0" * 64, 11), tmp_path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
