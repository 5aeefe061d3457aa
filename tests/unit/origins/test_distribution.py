# SPDX-License-Identifier: MIT
"""Distributions as data: archives, mirrors, snapshots and keys."""

from __future__ import annotations

import pytest

from tasks.origins import distribution
from tasks.origins.distribution import Suite
from tasks.util.errors import UserError

SUITE = Suite("debian", "bookworm")
OWN = {("Debian", "Debian"): "http://mirror.example/debian", ("Ubuntu", "Ubuntu"): "http://other.example"}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's apt has a mirror of the main archive alone."""
    monkeypatch.delenv("TCBUILD_DEBIAN_MIRROR", raising=False)
    monkeypatch.setattr(distribution, "_machine_mirrors", lambda: OWN)


def test_the_machines_mirror_comes_first_and_the_public_one_after_it() -> None:
    assert distribution.mirrors(SUITE) == {
        "debian": ["http://mirror.example/debian", "http://deb.debian.org/debian"],
        "debian-security": ["http://deb.debian.org/debian-security"],
    }


@pytest.mark.parametrize("by", ["profile", "variable"])
def test_a_named_mirror_is_the_only_one(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    def mirrors(named: str) -> dict[str, list[str]]:
        if by == "variable":
            monkeypatch.setenv("TCBUILD_DEBIAN_MIRROR", named)
            return distribution.mirrors(SUITE)
        monkeypatch.setenv("TCBUILD_DEBIAN_MIRROR", "http://not.example")
        return distribution.mirrors(Suite("debian", "bookworm", named))

    assert mirrors("http://my.example/{archive}/") == {
        "debian": ["http://my.example/debian"],
        "debian-security": ["http://my.example/debian-security"],
    }
    found = mirrors("http://my.example/debian")
    assert found["debian"] == ["http://my.example/debian"]
    assert found["debian-security"] == ["http://deb.debian.org/debian-security"]


def test_mirrors_in_the_configuration_of_apt() -> None:
    """As apt prints them for deb822 and one-line sources, http and others, with and without lists."""
    targets = (
        "http://deb.debian.org/debian/ main Debian\tDebian\n"
        "http://ftp.example/debian/ main Debian\tDebian\n"
        "http://deb.debian.org/debian-security/ main Debian\tDebian-Security\n"
        "file:/srv/ubuntu/ main Ubuntu\tUbuntu\n"
        "mirror+file:/etc/apt/apt-mirrors.txt/ main Ubuntu\tUbuntu\n"
        "http://archive.ubuntu.com/ubuntu/ universe Ubuntu\tUbuntu\n"
        "http://new.example/ main \t\n"
    )
    assert distribution.parse_mirrors(targets) == {
        ("Debian", "Debian"): "http://deb.debian.org/debian",
        ("Debian", "Debian-Security"): "http://deb.debian.org/debian-security",
    }


def test_address_of_a_snapshot() -> None:
    assert distribution.snapshots(SUITE, "debian-security", "20260711T101637Z") == [
        "https://snapshot.debian.org/archive/debian-security/20260711T101637Z"
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("Debian", "bookworm"), "distribution: expected a name"),
        (("debian", "../x"), "name: expected a name"),
        (("debian", "bookworm", "", "i386 amd64"), "architecture: expected a name"),
        (("debian", "bookworm", "file:/srv"), "mirror: expected an address http"),
        (("debian", "bookworm", "http:///debian"), "mirror: expected an address http"),
        (("debian", "bookworm", "http://my.example/\nTrusted: yes"), "mirror: expected an address http"),
    ],
)
def test_what_is_no_suite(values: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Suite(*values)


def test_an_unknown_distribution_is_named() -> None:
    with pytest.raises(UserError, match="unknown distribution 'gentoo'") as caught:
        distribution.load("gentoo")
    assert "debian" in caught.value.hint


@pytest.mark.parametrize("value", ["my.example/debian", "http://my.example/debian\nTrusted: yes"])
def test_a_variable_that_names_no_mirror(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TCBUILD_DEBIAN_MIRROR", value)
    with pytest.raises(UserError, match="TCBUILD_DEBIAN_MIRROR: expected an address http") as caught:
        distribution.mirrors(SUITE)
    assert "TCBUILD_DEBIAN_MIRROR=http://" in caught.value.hint
