# SPDX-License-Identifier: MIT
"""The content of a recipe's lock, and the files it names in the cache."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.formats import go_module
from tasks.origins import origin_lock
from tasks.origins.origin_lock import OriginFile, OriginLock
from tasks.util.errors import UserError

ONE = OriginFile("https://h/a.tgz", "a.tgz", "a" * 64, 3)
TWO = OriginFile("https://h/a.tgz", "more.tgz", "b" * 64, 4)
CONTENT = b"abc"
ABC = OriginFile("https://h/abc", "abc", hashlib.sha256(CONTENT).hexdigest(), 3)


def test_a_lock_reads_as_it_was_written_in_a_stable_order(tmp_path: Path) -> None:
    odd = OriginFile('https://h/"q".tgz', "q.tgz", "c" * 64, 5)
    path = tmp_path / "lock.toml"
    path.write_text(OriginLock((TWO, odd, ONE)).to_toml())
    assert origin_lock.load(path).file == (odd, ONE, TWO)
    assert origin_lock.load(path).to_toml() == path.read_text()
    assert origin_lock.load(path).of(ONE.origin) == (ONE, TWO)
    assert origin_lock.load(path).of("https://h/") == ()
    assert origin_lock.load(tmp_path / "none.toml") == OriginLock()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("a" * 64, "a" * 63, "file[0].sha256: expected 64 hex digits"),
        ('name = "a.tgz"', 'name = "../a.tgz"', "file[0].name: expected a file's name"),
        ('name = "a.tgz"', 'name = ".lock"', "file[0].name: expected a file's name"),
        ("size = 3", 'size = "3"', "file[0].size: expected an integer"),
        ("size = 3", "", "missing key 'file[0].size'"),
    ],
)
def test_a_damaged_lock_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "lock.toml"
    path.write_text(OriginLock((ONE,)).to_toml().replace(old, new))
    with pytest.raises(UserError, match=re.escape(words)):
        origin_lock.load(path)


def test_a_file_is_kept_only_if_it_is_the_locked_one(tmp_path: Path) -> None:
    cache, found = tmp_path / "cache", tmp_path / "found"
    found.write_bytes(b"other")
    with pytest.raises(UserError, match="abc: wrong sha256") as caught:
        origin_lock.store_locked(cache, ABC, found, "the registry")
    assert caught.value.hint == "the registry serves another file than the locked one"
    assert not ABC.cached_in(cache).exists()
    found.write_bytes(CONTENT)
    origin_lock.store_locked(cache, ABC, found, "the registry")
    assert ABC.is_cached_in(cache)
    assert origin_lock.entry_of(ABC.origin, ABC.name, ABC.cached_in(cache)) == ABC


def test_what_is_missing_or_damaged_is_to_be_fetched(tmp_path: Path) -> None:
    assert origin_lock.missing_files([ABC], tmp_path, offline=False) == [ABC]
    with pytest.raises(UserError, match="abc is not in the cache, and offline=1 forbids"):
        origin_lock.missing_files([ABC], tmp_path, offline=True)
    ABC.cached_in(tmp_path).parent.mkdir(parents=True)
    ABC.cached_in(tmp_path).write_bytes(b"damaged")
    with pytest.raises(UserError, match="abc in the cache is damaged, and offline=1 forbids"):
        origin_lock.missing_files([ABC], tmp_path, offline=True)
    ABC.cached_in(tmp_path).write_bytes(CONTENT)
    assert origin_lock.missing_files([ABC], tmp_path, offline=True) == []


def test_a_lock_says_who_publishes_a_hash_and_what_is_in_a_module(tmp_path: Path) -> None:
    released = OriginFile("https://h/a.tgz", "a.tgz", "a" * 64, 0, published_by=("one", "two"))
    module = OriginFile("go:h.org/m@v1.0.0", "h.org+m@v1.0.0.zip", "b" * 64, 4, h1=f"h1:{'A' * 43}=")
    path = tmp_path / "lock.toml"
    path.write_text(OriginLock((released, module)).to_toml())
    assert origin_lock.load(path).file == (module, released)
    assert [path.read_text().count(key) for key in ("h1 = ", "published_by = ")] == [1, 1]
    path.write_text(path.read_text().replace("h1:A", "h1:-"))
    with pytest.raises(UserError, match=re.escape("file[0].h1: expected h1:")):
        origin_lock.load(path)


def test_another_zip_with_the_same_content_is_the_locked_module(tmp_path: Path) -> None:
    found = []
    for packing, content in (
        (zipfile.ZIP_STORED, "a"),
        (zipfile.ZIP_DEFLATED, "a"),
        (zipfile.ZIP_STORED, "b"),
    ):
        found.append(tmp_path / f"{packing}{content}.zip")
        with zipfile.ZipFile(found[-1], "w", packing) as archive:
            archive.writestr("h.org/m@v1.0.0/m.go", content * 100)
    plain = origin_lock.entry_of("go:h.org/m@v1.0.0", "h.org+m@v1.0.0.zip", found[0])
    module = replace(plain, h1=go_module.h1(found[0]))
    assert [module.is_in(path) for path in found] == [True, True, False]
    assert [plain.is_in(path) for path in found] == [True, False, False]
    origin_lock.store_locked(tmp_path / "cache", module, found[1], "the proxy")
    assert module.is_cached_in(tmp_path / "cache")
    module.cached_in(tmp_path / "cache").write_bytes(b"damaged")
    assert not module.is_cached_in(tmp_path / "cache")
