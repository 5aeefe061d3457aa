# SPDX-License-Identifier: MIT
"""On an Ubuntu host, whose apt knows no mirror of Debian, packages of a Debian suite come from Debian's."""

from __future__ import annotations

import pytest

from tasks.origins import distribution
from tasks.origins.distribution import Suite

# What `apt-get indextargets` prints on Ubuntu 22.04 and 24.04 (Created-By: Packages), and with a PPA.
UBUNTU = "".join(
    f"http://archive.ubuntu.com/ubuntu/ {component} Ubuntu\tUbuntu\n"
    for component in ("main", "universe", "restricted", "multiverse") * 4
)
PPA = "https://ppa.launchpadcontent.net/a/b/ubuntu/ main LP-PPA-a-b\tThe b of a\n"
FRESH = "http://archive.ubuntu.com/ubuntu/ main \t\n"
"""Before the first `apt-get update`."""


def test_ubuntus_mirror_is_no_mirror_of_debian() -> None:
    assert distribution.parse_mirrors(UBUNTU + PPA) == {
        ("Ubuntu", "Ubuntu"): "http://archive.ubuntu.com/ubuntu",
        ("LP-PPA-a-b", "The b of a"): "https://ppa.launchpadcontent.net/a/b/ubuntu",
    }
    assert distribution.parse_mirrors(FRESH) == {}


@pytest.mark.parametrize("said", [UBUNTU, PPA, FRESH, ""], ids=["ubuntu", "ppa", "fresh", "nothing"])
def test_a_debian_suite_comes_from_debians_mirrors_there(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.delenv("TCBUILD_DEBIAN_MIRROR", raising=False)
    monkeypatch.setattr(distribution, "_machine_mirrors", lambda: distribution.parse_mirrors(said))
    assert distribution.mirrors(Suite("debian", "bookworm")) == {
        "debian": ["http://deb.debian.org/debian"],
        "debian-security": ["http://deb.debian.org/debian-security"],
    }
