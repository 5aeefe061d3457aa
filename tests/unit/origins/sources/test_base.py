# SPDX-License-Identifier: MIT
"""The kinds of sources: what a profile may say of each, what is locked, what a manifest says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.config import inputs
from tasks.config.settings import Settings
from tasks.origins import sources
from tasks.origins.lock import Lock, LockedFile, LockedPackage
from tasks.origins.sources import AnySource
from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.base import Access, Material, Source
from tasks.origins.sources.file import FileSource
from tasks.origins.sources.git import GitSource
from tasks.origins.sources.http import HttpSource
from tasks.origins.sources.recipe import RecipeSource
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file

PACKAGE = LockedPackage("linux-source-6.1", "6.1.1", "a" * 64)
FILE = LockedFile("16.x/core.gz", "b" * 64)
LOCK = Lock((LockedPackage("bash", "5", "c" * 64), PACKAGE), (FILE,))
APT = AptSource(package="linux-source-[0-9]*")
HTTP = HttpSource(path=FILE.path)


@pytest.fixture
def access(make_settings: Callable[..., Settings]) -> Access:
    return inputs.access(make_settings(offline=True))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    return tmp_path


def build(table: dict[str, Any]) -> Source:
    source: Source = toml_schema.build(table, AnySource, "mine.toml", "kernel.source")
    return source


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"kind": "apt", "package": "linux-source-[0-9]*"}, APT),
        ({"kind": "http", "path": FILE.path}, HTTP),
        ({"kind": "file", "path": "linux"}, FileSource(path="linux")),
    ],
)
def test_the_kind_decides_what_a_source_is(table: dict[str, Any], expected: Source) -> None:
    assert build(table) == expected


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "apt"}, "kernel.source.package: needed by kind = 'apt'"),
        ({"kind": "apt", "package": ""}, "kernel.source.package: needed by kind = 'apt'"),
        ({"kind": "http", "package": "x"}, "kernel.source.path: needed by kind = 'http'"),
        ({"kind": "file", "path": "x", "package": "y"}, "kernel.source.package: not known to kind = 'file'"),
        (
            {"kind": "floppy"},
            "kernel.source.kind: expected one of 'apt', 'http', 'file', 'kernel.org', 'imported', "
            "got 'floppy'",
        ),
        ({"path": "x"}, "missing key 'kernel.source.kind'"),
    ],
)
def test_what_cannot_be_meant_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        build(table)
    assert caught.value.message == f"mine.toml: {words}"


def test_every_module_of_a_kind_is_in_the_union() -> None:
    modules = {path.stem for path in (CHECKOUT.root / "tasks/origins/sources").glob("*.py")} - {
        "__init__",
        "base",
    }
    # Only images are made by recipes (tasks/config/sources.py), and only kernels come from git.
    others = {str(one.__dataclass_fields__["kind"].default) for one in (RecipeSource, GitSource)}
    kinds = {*toml_schema.kinds(sources.ALL), *others}
    assert {kind.replace(".", "_") for kind in kinds} == modules


def test_each_kind_finds_its_own_entry_in_a_lock() -> None:
    assert APT.locked_in(LOCK) == PACKAGE
    assert HTTP.locked_in(LOCK) == FILE
    assert AptSource(package="gone*").locked_in(LOCK) is None
    assert HttpSource(path="gone").locked_in(LOCK) is None
    with pytest.raises(UserError, match=r"matches several locked packages: bash, linux-source-6\.1"):
        AptSource(package="*").locked_in(LOCK)


def test_what_must_be_locked_is_said(access: Access, checkout: Path) -> None:
    with pytest.raises(
        UserError, match=rf"no sha256 is locked for gone of profile {access.profile}"
    ) as caught:
        HttpSource(path="gone").pinned_in(LOCK, access)
    assert caught.value.hint == f"./doit lock profile={access.profile}"
    with pytest.raises(UserError, match="lists of debian bookworm are not in the cache, and offline=1"):
        AptSource(package="gone*").packages(LOCK, access)
    with pytest.raises(UserError, match="no version is locked for gone"):
        AptSource(package="gone*").packages(LOCK, replace(access, frozen=True))
    with pytest.raises(UserError, match="takes packages, and names no suite") as caught:
        AptSource(package="gone*").packages(LOCK, replace(access, suite=None))
    assert "suite = " in caught.value.hint
    assert APT.packages(LOCK, access) == (PACKAGE,)
    (checkout / "core.gz").write_bytes(b"core")
    mine = FileSource(path="core.gz")
    found = LockedFile("core.gz", sha256_file(checkout / "core.gz"))
    assert mine.pinned_in(Lock(), access) == mine.pinned_in(Lock(file=(found,)), access) == found
    with pytest.raises(UserError, match=r"core\.gz: expected sha256 0{64}, got") as caught:
        mine.pinned_in(Lock(file=(LockedFile("core.gz", "0" * 64),)), access)
    assert caught.value.hint == "./doit lock takes it as it is now"


def test_a_tree_of_this_machine_has_no_sha256(access: Access, checkout: Path) -> None:
    """Its copy has a digest: the tree may be edited at any time."""
    (checkout / "linux").mkdir(parents=True)
    (checkout / "linux/Makefile").write_text("all:\n")
    source = FileSource(path="linux")
    assert source.tree() == checkout / "linux"
    assert source.pinned_in(Lock(), access) is None
    assert source.material(Lock(), access.cache) is None


def test_what_a_manifest_says(access: Access, checkout: Path) -> None:
    assert APT.material(LOCK, access.cache) is None
    assert HttpSource(path="gone").material(LOCK, access.cache) is None
    told = Material("mirror", FILE.path, FILE.sha256, 0, f"mirrors: {FILE.path}")
    assert HTTP.material(LOCK, access.cache) == told
    FILE.cached_in(access.cache).parent.mkdir(parents=True)
    FILE.cached_in(access.cache).write_bytes(b"four")
    assert HTTP.material(LOCK, access.cache) == told._replace(size=4)
    with pytest.raises(UserError, match="gone is no longer there"):
        FileSource(path="gone").material(LOCK, access.cache)


def test_a_file_of_this_machine_that_is_gone(checkout: Path) -> None:
    with pytest.raises(UserError, match=r"gone does not exist") as caught:
        FileSource(path="gone").local_file()
    assert caught.value.hint == "check the path in the profile"
    assert FileSource(path="gone").tree() is None
