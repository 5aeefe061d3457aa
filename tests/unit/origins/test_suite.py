# SPDX-License-Identifier: MIT
"""What apt says, read; and packages that need no network because they are in the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tasks.origins import suite
from tasks.origins.distribution import Suite
from tasks.origins.lock import LockedPackage
from tasks.util.errors import UserError
from tests.support.mirror import forbid_sockets

SUITE = Suite("debian", "bookworm")
RECORDS = f"""\
Package: attr
Version: 1:2.5.1-4
Architecture: amd64
Pre-Depends: dpkg (>= 1.17)
Depends: libattr1 (= 1:2.5.1-4), libc6 (>= 2.33) | libc6.1, debconf:any
Provides: xattr (= 2), attr-tools
Description: utilities for
 manipulating filesystem
 Version: 9.9 (a continuation line, not a field)
Filename: pool/main/a/attr/attr_2.5.1-4_amd64.deb
Size: 41172
MD5sum: 0123
SHA256: {"a" * 64}

Package: local
Version: 3
Architecture: amd64
Status: install ok installed

Package: linux-source
Version: 6.1.1-1
Architecture: all
Filename: pool/l.deb
SHA256: {"d" * 64}
"""
URIS = """\
Reading package lists...
'http://deb.debian.org/debian/pool/main/g/gcc-12/gcc-12-base_12.2.0-14%2bdeb12u1_amd64.deb' \
gcc-12-base_12.2.0-14+deb12u1_amd64.deb 37596 MD5Sum:8e7e741807b1e1939df8f58323affdcb
'http://deb.debian.org/debian-security/pool/updates/main/x/xz-utils/liblzma5_5.4.1-1_amd64.deb' \
liblzma5_5.4.1-1_amd64.deb 205796 \n\
'http://deb.debian.org/debian/pool/main/a/attr/attr_2.5.1-4_amd64.deb' \
attr_1%3a2.5.1-4_amd64.deb 41172 SHA256:aaaa
"""


def test_records_of_apt_cache_are_read() -> None:
    depends = ("dpkg", "libattr1", "libc6", "libc6.1", "debconf")
    assert suite.parse_offers(RECORDS) == [
        suite.Offer("attr", "1:2.5.1-4", "a" * 64, 41172, depends, ("xattr", "attr-tools")),
        suite.Offer("linux-source", "6.1.1-1", "d" * 64, 0),
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "N: Unable to locate package x\n"])
def test_nothing_said_is_nothing_offered(text: str) -> None:
    assert suite.parse_offers(text) == []
    assert suite.parse_uris(text) == []


def test_addresses_of_apt_get_are_read() -> None:
    """apt prints an MD5, a SHA256 or no hash; an epoch stands in the name of the file alone."""
    assert [(name, version, uri.rpartition("/")[2]) for name, version, uri in suite.parse_uris(URIS)] == [
        ("gcc-12-base", "12.2.0-14+deb12u1", "gcc-12-base_12.2.0-14%2bdeb12u1_amd64.deb"),
        ("liblzma5", "5.4.1-1", "liblzma5_5.4.1-1_amd64.deb"),
        ("attr", "1:2.5.1-4", "attr_2.5.1-4_amd64.deb"),
    ]


@pytest.mark.parametrize(
    "line", ["Date: Sat, 11 Jul 2026 10:16:37 UTC", "Date: Sat, 11 Jul 2026 12:16:37 +0200"]
)
def test_date_of_a_release_file(line: str) -> None:
    text = f"-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: Debian\n{line}\n"
    assert suite.release_date(text, "InRelease") == "20260711T101637Z"
    with pytest.raises(UserError, match="InRelease has no date"):
        suite.release_date("Origin: Debian\n", "InRelease")


def cached(cache: Path, name: str) -> LockedPackage:
    package = LockedPackage(name, "1:1-1", hashlib.sha256(name.encode()).hexdigest(), "debian", f"{name}.deb")
    package.cached_in(cache).parent.mkdir(parents=True)
    package.cached_in(cache).write_bytes(name.encode())
    return package


def test_packages_in_the_cache_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_sockets(monkeypatch)
    package = cached(tmp_path, "attr")
    suite.fetch(SUITE, [package], tmp_path)
    suite.fetch(SUITE, [], tmp_path)
    package.cached_in(tmp_path).write_bytes(b"rotten")
    lost = LockedPackage("lost", "1", "0" * 64, "debian", "pool/lost.deb")
    with pytest.raises(UserError, match=r"not in the cache, and offline=1 forbids to fetch: attr, lost\n"):
        suite.fetch(SUITE, [lost, package], tmp_path, offline=True)
