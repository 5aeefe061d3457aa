# SPDX-License-Identifier: MIT
"""The packages of build roots: fetched where a root is needed, from the address that the lock names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.fetch import toolchain
from tasks.origins import distribution
from tasks.toolchain import build_root, entry, host_match
from tasks.util.errors import UserError
from tests.support import buildroots
from tests.support.mirror import Mirror

TOML = """
description = "d"
compiler = "gcc"
[root]
suite = { distribution = "debian", name = "bookworm" }
makers = ["made-up"]
"""


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as served:
        yield served


@pytest.fixture
def settings(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: Mirror
) -> Settings:
    """A profile with a toolchain of one package, which a mirror on loopback has and this machine lacks."""
    buildroots.serve(tmp_path, mirror, monkeypatch, "t", TOML, "bin/made-up")
    monkeypatch.delenv(entry.VARIABLE, raising=False)
    monkeypatch.setattr(host_match, "_installed", lambda names: {})
    made = make_settings()
    return replace(made, profile=replace(made.profile, toolchain="t"))


def offline(settings: Settings) -> Settings:
    return replace(settings, network=replace(settings.network, offline=True))


def test_the_locked_package_is_fetched_and_unpacked_once(settings: Settings, mirror: Mirror) -> None:
    toolchain.fetch(settings)
    root = build_root.ensure(settings.paths.cache, "t")
    assert (root / "usr/bin/made-up").is_file()
    asked = len(mirror.requests)
    assert asked
    toolchain.fetch(offline(settings))
    assert len(mirror.requests) == asked


def test_a_machine_with_the_versions_fetches_nothing(
    settings: Settings, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_match, "difference", lambda root, locked: "")
    toolchain.fetch(offline(settings))
    assert not mirror.requests


def test_without_network_the_way_out_is_named(settings: Settings) -> None:
    with pytest.raises(UserError, match="toolchain t: not in the cache, and offline=1 forbids") as caught:
        toolchain.fetch(offline(settings))
    assert "toolchain=host" in caught.value.hint


def test_a_package_that_is_gone_says_how_to_lock_anew(
    settings: Settings, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.pages.clear()
    whole = replace(distribution.load("debian"), snapshots=())
    monkeypatch.setattr(distribution, "load", lambda name: whole)
    with pytest.raises(UserError, match="toolchain t: no mirror and no snapshot") as caught:
        toolchain.fetch(settings)
    assert "./doit toolchain:lock t" in caught.value.hint
    assert "made-up 1" in caught.value.message


def test_a_toolchain_without_a_root_cannot_be_locked(settings: Settings) -> None:
    folder = build_root.FOLDER
    (folder / "host.toml").write_text('description = "d"\ncompiler = "gcc"\n')
    with pytest.raises(UserError, match="toolchain host has no build root"):
        toolchain.lock(settings, ["host"])


def test_offline_nothing_is_locked(settings: Settings, mirror: Mirror) -> None:
    before = build_root.lock_path("t").read_text()
    with pytest.raises(UserError, match="offline=1 forbids"):
        toolchain.lock(offline(settings), ["t"])
    assert not mirror.requests
    assert build_root.lock_path("t").read_text() == before
