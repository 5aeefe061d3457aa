# SPDX-License-Identifier: MIT
"""The lock of a profile: it is read as it was written, and wrong entries are refused."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.origins.lock import (
    PACKAGE_NAME,
    PACKAGE_VERSION,
    Lock,
    LockedArchive,
    LockedExtension,
    LockedFile,
    LockedPackage,
    load_lock,
)
from tasks.util import toml_schema
from tasks.util.errors import UserError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


NAME = st.from_regex(PACKAGE_NAME, fullmatch=True)
VERSION = st.from_regex(PACKAGE_VERSION, fullmatch=True)
SHA = st.text("0123456789abcdef", min_size=64, max_size=64)


LOCKS = st.builds(
    Lock,
    st.lists(st.builds(LockedPackage, NAME, VERSION, SHA, TEXT), unique_by=lambda item: item.name).map(tuple),
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


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,8}", fullmatch=True).filter(
    lambda name: not name.endswith((".tcz", "-KERNEL"))
)


HEX = st.text("0123456789abcdef", min_size=32, max_size=32)


ENTRIES = st.builds(
    LockedExtension, NAMES, HEX.map(lambda text: text * 2), HEX, st.integers(0), st.lists(NAMES).map(tuple)
)


@given(st.lists(ENTRIES, unique_by=lambda entry: entry.name))
def test_any_lock_is_read_back_and_always_in_the_same_order(entries: list[LockedExtension]) -> None:
    lock = Lock(extension=tuple(sorted(entries, key=lambda entry: entry.name)))
    text = lock.to_toml()
    assert toml_schema.build(tomllib.loads(text), Lock, "x", "") == lock
    assert Lock(extension=tuple(entries)).to_toml() == text


def test_a_lock_cannot_name_paths(tmp_path: Path) -> None:
    """A .dep of a hostile mirror must not reach outside the cache through the lock either."""
    path = tmp_path / "x.lock.toml"
    good = Lock(extension=(LockedExtension("a", "a" * 64, "b" * 32, 1, ("b",)),)).to_toml()
    path.write_text(good)
    assert load_lock(path).extension[0].deps == ("b",)
    for old, new in (
        ('name = "a"', 'name = "../a"'),
        ('    "b"', '    "/b"'),
        ("b" * 32, "b" * 31),
    ):
        path.write_text(good.replace(old, new))
        with pytest.raises(UserError, match=r"x\.lock\.toml: extension\[0\]\.(name|md5): expected"):
            load_lock(path)


@pytest.mark.parametrize("date", ["20260711", "20261311T101637Z", "2026-07-11T10:16:37Z"])
def test_an_archive_has_a_date_of_the_calendar(date: str) -> None:
    with pytest.raises(ValueError, match="date: expected one like 20260711T101637Z"):
        LockedArchive("debian", "bookworm", date)


@pytest.mark.parametrize(
    ("name", "version", "key"), [("../x", "1", "name"), ("", "1", "name"), ("attr", "1/../../x", "version")]
)
def test_a_package_whose_file_would_lie_outside_of_the_cache(name: str, version: str, key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: expected that of a Debian package, got "):
        LockedPackage(name, version, "0" * 64)
