"""Profiles, locks and what the command line chooses."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cli.variables import resolve
from tasks.config import profile
from tasks.config import settings as config_settings
from tasks.config.profile import Profile
from tasks.fetch import mirror_probe
from tasks.origins.lock import Lock, LockedFile, LockedPackage, load_lock
from tasks.origins.sources.file import FileSource
from tasks.util import toml_schema
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError

MINIMAL = """
description = "made up"
source_date_epoch = 1
[kernel]
source = { kind = "apt", package = "linux-source-*" }
base = "base.config"
base_mode = "allnoconfig"
fragments = ["one", "two"]
[core]
[boot]
bootcodes = []
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one profile, `mine`."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/mine.toml").write_text(MINIMAL)
    (tmp_path / "profiles/mine.lock.toml").write_text(Lock().to_toml())
    monkeypatch.setattr(profile, "ROOT", tmp_path)
    monkeypatch.setattr(config_settings, "ROOT", tmp_path)
    monkeypatch.setenv("TCBUILD_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_of_the_project_loads(name: str) -> None:
    loaded = profile.load(name)
    assert loaded.kernel.fragments
    load_lock(ROOT / "profiles" / f"{name}.lock.toml")


def test_tc11_is_all_from_mirrors() -> None:
    """What `profile=auto` needs to know it can be fetched: mirrors, and a path to ask them for."""
    tc11 = profile.load("tc11")
    assert len(set(tc11.mirrors)) == len(tc11.mirrors) >= 2
    assert not isinstance(tc11.kernel.base, str)
    wanted = [tc11.kernel.source, tc11.kernel.base, *tc11.core.archives]
    assert {source.kind for source in wanted} == {"http"}
    assert tc11.probe in {source.mirror_path() for source in wanted}
    assert tc11.kernel.base_mode == "olddefconfig"


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
    ('base = "base.config"', "base = 1", "kernel.base: expected a table or a string, got 1"),
    ('base = "base.config"', 'base = { kind = "file" }', "kernel.base.path: needed by kind = 'file'"),
    ('"allnoconfig"', '"defconfig"', "kernel.base_mode: expected one of"),
    ("source_date_epoch = 1", 'source_date_epoch = "1"', "source_date_epoch: expected an integer"),
    ("bootcodes = []", 'bootcodes = "cde"', "boot.bootcodes: expected an array"),
    ("[core]", '[core]\narchives = ["x"]', "core.archives[0]: expected a table"),
    ("[boot]", "[boto]", "unknown key 'boto'"),
    ('description = "made up"', "", "missing key 'description'"),
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


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SHA = st.text("0123456789abcdef", min_size=64, max_size=64)
LOCKS = st.builds(
    Lock,
    st.lists(st.builds(LockedPackage, TEXT, TEXT, SHA), unique_by=lambda item: item.name).map(tuple),
    st.lists(st.builds(LockedFile, TEXT, SHA), unique_by=lambda item: item.path).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(LOCKS)
def test_lock_survives_writing_and_reading(lock: Lock) -> None:
    text = lock.to_toml()
    read = toml_schema.build(tomllib.loads(text), Lock, "lock", "")
    assert set(read.package) == set(lock.package)
    assert set(read.file) == set(lock.file)
    assert read.to_toml() == text


@settings(max_examples=60, deadline=None)
@given(LOCKS, st.randoms())
def test_lock_is_written_the_same_in_whatever_order(lock: Lock, random: Random) -> None:
    packages, files = list(lock.package), list(lock.file)
    random.shuffle(packages)
    random.shuffle(files)
    assert Lock(tuple(packages), tuple(files)).to_toml() == lock.to_toml()


@pytest.mark.parametrize("kind", ["package", "file"])
@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "F" * 64, "0" * 64 + "\\n"])
def test_lock_with_a_bad_hash_is_refused(tmp_path: Path, kind: str, sha256: str) -> None:
    path = tmp_path / "some.lock.toml"
    names = 'name = "x"\nversion = "1"' if kind == "package" else 'path = "x"'
    path.write_text(f'[[{kind}]]\n{names}\nsha256 = "{sha256}"\n')
    with pytest.raises(UserError, match=re.escape(f"{path}: {kind}[0].sha256: expected 64 hex digits")):
        load_lock(path)


def test_absent_lock_is_empty(tmp_path: Path) -> None:
    assert load_lock(tmp_path / "none.toml") == Lock()


def test_cache_keeps_files_of_one_name_apart(tmp_path: Path) -> None:
    """corepure64.gz of two releases, and one version of a package from two sources."""
    one, two = (LockedFile("11.x/core.gz", digit * 64).cached_in(tmp_path) for digit in "ab")
    assert one != two
    assert one.name == two.name == "core.gz"
    deb = LockedPackage("attr", "1:2.5", "a" * 64).cached_in(tmp_path)
    assert deb.name == "attr_1%3a2.5.deb"
    assert deb.is_relative_to(tmp_path / "downloads")


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, {"frozen": False, "offline": False, "fragments": ("one", "two")}),
        ({"frozen": "1", "offline": "1"}, {"frozen": True, "offline": True}),
        ({"fragments": "two"}, {"fragments": ("two",)}),
        ({"fragments": ""}, {"fragments": ()}),
    ],
)
def test_command_line_chooses(checkout: Path, variables: dict[str, str], expected: dict[str, object]) -> None:
    chosen = resolve({"profile": "mine", **variables}, checkout / "artifacts")
    assert {name: getattr(chosen, name) for name in expected} == expected
    assert chosen.output == checkout / "artifacts/mine"
    assert chosen.used_lock == checkout / "artifacts/mine/lock.toml"
    assert chosen.pinned_lock == checkout / "profiles/mine.lock.toml"
    assert chosen.cache == checkout / "cache"


@pytest.mark.parametrize("name", ["frozen", "offline"])
@pytest.mark.parametrize("value", ["yes", "true", "", "2"])
def test_flags_are_0_or_1(checkout: Path, name: str, value: str) -> None:
    with pytest.raises(UserError, match=f"{name}={value}: expected 0 or 1"):
        resolve({"profile": "mine", name: value}, checkout / "artifacts")


def test_auto_is_decided_once(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror's outage later on must not change what is built."""
    asked: list[bool] = []

    def choose(profiles: dict[str, Profile], offline: bool) -> tuple[str, str]:
        asked.append(offline)
        assert list(profiles) == ["mine"]
        return "mine", "because"

    monkeypatch.setattr(mirror_probe, "choose", choose)
    for _ in range(2):
        assert resolve({"offline": "1"}, checkout / "artifacts").name == "mine"
    assert asked == [True]
    record = json.loads((checkout / "artifacts/profile.json").read_text())
    assert record == {"profile": "mine", "reason": "because"}


@pytest.mark.parametrize("content", ["", "{}", "[]", "no json"])
def test_damaged_record_of_auto(checkout: Path, content: str) -> None:
    record = checkout / "artifacts/profile.json"
    record.parent.mkdir()
    record.write_text(content)
    with pytest.raises(UserError, match="is damaged") as caught:
        resolve({}, checkout / "artifacts")
    assert "profile=NAME" in caught.value.hint
