# SPDX-License-Identifier: MIT
"""Profiles: what is read of them, and which mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.config import profile
from tasks.origins.lock import load_lock
from tasks.origins.sources.file import FileSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.profiles import MINIMAL, minimal_checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return minimal_checkout(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_of_the_project_loads(name: str) -> None:
    loaded = profile.load(name)
    assert loaded.kernel.fragments or loaded.kernel.image
    load_lock(CHECKOUT.root / "profiles" / f"{name}.lock.toml")


def test_tc11_is_all_from_mirrors() -> None:
    """What `profile=auto` needs to know it can be fetched: mirrors, and a path to ask them for."""
    tc11 = profile.load("tc11")
    assert len(set(tc11.mirrors)) == len(tc11.mirrors) >= 2
    assert not isinstance(tc11.kernel.base, str)
    wanted = [tc11.kernel.own_source, tc11.kernel.base, *tc11.core.archives]
    assert {source.kind for source in wanted} == {"http"}
    assert tc11.probe in {source.mirror_path() for source in wanted}
    assert tc11.kernel.base_mode == "olddefconfig"


def test_packages_have_the_architecture_of_the_profile() -> None:
    ours, small = profile.load("apt").packages_suite, profile.load("apt32").packages_suite
    assert ours
    assert small
    assert (ours.architecture, small.architecture) == ("", "i386")
    assert str(small) == f"{ours} i386"


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ('arch = "vax"\n', "arch: expected one of x86, x86_64, got 'vax'"),
        (
            'suite = { distribution = "debian", name = "x", architecture = "i386" }\n',
            "suite.architecture: arch =",
        ),
    ],
)
def test_one_architecture_that_tcbuild_knows(checkout: Path, first: str, words: str) -> None:
    path = checkout / "profiles/mine.toml"
    path.write_text(first + path.read_text())
    with pytest.raises(UserError, match=words):
        profile.load("mine")


def test_locks_are_no_profiles(checkout: Path) -> None:
    assert profile.names() == ["mine"]


def test_unknown_profile_names_those_there_are(checkout: Path) -> None:
    with pytest.raises(UserError, match="unknown profile 'yours'") as caught:
        profile.load("yours")
    assert "mine" in caught.value.hint


def test_lock_is_not_a_profile_either(checkout: Path) -> None:
    with pytest.raises(UserError, match=r"unknown profile 'mine\.lock'"):
        profile.load("mine.lock")


MISTAKES = [
    ('package = "linux-source-*"', 'path = "x"', "kernel.source.package: needed by kind = 'apt'"),
    ('kind = "apt"', 'kind = "http"', "kernel.source.path: needed by kind = 'http'"),
    ('kind = "apt"', 'kind = "ftp"', "kernel.source.kind: expected one of 'apt', 'http', 'file'"),
    ("[kernel]", 'mirrors = ["ftp://a.example/tc"]\n[kernel]', "mirrors: expected http://HOST… or https"),
    ("[kernel]", 'mirrors = ["a.example"]\n[kernel]', "mirrors: expected http://HOST… or https://HOST…, got"),
    ('base = "base.config"', "base = 1", "kernel.base: expected a table or a string, got 1"),
    ('base = "base.config"', 'base = { kind = "file" }', "kernel.base.path: needed by kind = 'file'"),
    ('"allnoconfig"', '"defconfig"', "kernel.base_mode: expected one of"),
    ("source_date_epoch = 1", 'source_date_epoch = "1"', "source_date_epoch: expected an integer"),
    ("bootcodes = []", 'bootcodes = "cde"', "boot.bootcodes: expected an array"),
    ("[core]", '[core]\narchives = ["x"]', "core.archives[0]: expected a table"),
    ("[boot]", "[boto]", "unknown key 'boto'"),
    ('description = "made up"', "", "missing key 'description'"),
    ('description = "made up"', 'description = "made\\u2028up"', "description: expected one line of text"),
]
"""What is replaced in MINIMAL, by what, and what its author is told."""


@pytest.mark.parametrize("old, new, expected", MISTAKES)
def test_mistake_in_a_profile_names_file_and_key(checkout: Path, old: str, new: str, expected: str) -> None:
    path = checkout / "profiles/mine.toml"
    assert old in MINIMAL
    path.write_text(MINIMAL.replace(old, new))
    with pytest.raises(UserError) as caught:
        profile.load("mine")
    assert caught.value.message.startswith(f"{path}: {expected}")


def test_base_may_be_a_name_or_a_source(checkout: Path) -> None:
    assert profile.load("mine").kernel.base == "base.config"
    text = MINIMAL.replace('"base.config"', '{ kind = "file", path = "kept.config" }')
    (checkout / "profiles/mine.toml").write_text(text)
    assert profile.load("mine").kernel.base == FileSource(path="kept.config")
