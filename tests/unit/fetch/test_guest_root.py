# SPDX-License-Identifier: MIT
"""The packages for running guests: fetched if `--ssh` asks for them, and then kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.fetch import guest_root
from tasks.origins import suite
from tasks.toolchain import host_match
from tasks.util.errors import UserError
from tests.support import buildroots
from tests.support.mirror import Mirror

TOML = """
description = "d"
[root]
suite = { distribution = "debian", name = "trixie" }
makers = ["server"]
"""


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as served:
        yield served


@pytest.fixture
def settings(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Mirror
) -> Settings:
    """A profile for whose guests a mirror on loopback has one package."""
    buildroots.serve(tmp_path, mirror, monkeypatch, "guest-x86_64", TOML, "usr/sbin/server")
    return make_settings()


def offline(settings: Settings) -> Settings:
    return replace(settings, network=replace(settings.network, offline=True))


def test_it_is_fetched_only_if_it_is_asked_for(settings: Settings, mirror: Mirror) -> None:
    """The other options of the command do not matter."""
    guest_root.fetch(settings, ssh=False, firmware="bios")
    assert not mirror.requests
    guest_root.fetch(settings, ssh=True, firmware="bios")
    assert (guest_root.unpacked(settings.paths.cache, "x86_64") / "usr/sbin/server").is_file()
    asked = len(mirror.requests)
    guest_root.fetch(offline(settings), ssh=True)
    assert len(mirror.requests) == asked


def test_this_machines_own_packages_do_not_count(
    settings: Settings, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand in for a toolchain of the same versions."""
    monkeypatch.setattr(host_match, "difference", lambda root, locked: "")
    guest_root.fetch(settings, ssh=True)
    assert mirror.requests


def test_without_network_what_is_missing_is_named(settings: Settings) -> None:
    with pytest.raises(UserError, match="not in the cache, and offline=1 forbids to fetch: server"):
        guest_root.fetch(offline(settings), ssh=True)


def test_a_package_that_is_gone_is_locked_anew(settings: Settings, mirror: Mirror) -> None:
    mirror.pages.clear()
    with pytest.raises(suite.Gone, match=r"--ssh: .* has any more: server 1") as caught:
        guest_root.fetch(settings, ssh=True)
    assert caught.value.hint == "./doit toolchain:lock guest-x86_64"


def test_an_architecture_without_programs_is_named(settings: Settings) -> None:
    with pytest.raises(UserError, match=r"no programs to bring into a guest of x86$"):
        guest_root.name("x86")
