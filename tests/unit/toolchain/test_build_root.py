# SPDX-License-Identifier: MIT
"""Toolchains: their descriptions and locks, the digests of both, and a root made of packages."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.origins.lock import Lock, LockedPackage
from tasks.toolchain import build_root
from tasks.util import file_record
from tasks.util.errors import UserError
from tasks.util.files import remove_tree, sha256_file
from tests.support import debs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of toolchains in place of the real one."""
    empty = tmp_path / "toolchains"
    empty.mkdir()
    monkeypatch.setattr(build_root, "FOLDER", empty)
    return empty


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.toml").write_text(text)


def write_lock(folder: Path, name: str, *packages: LockedPackage) -> None:
    (folder / f"{name}.lock.toml").write_text(Lock(package=packages).to_toml())


ROOT_TOML = """
description = "d"
compiler = "gcc-9"
[root]
suite = { distribution = "debian", name = "bullseye" }
makers = ["gcc-9"]
helpers = ["make"]
entry = ["proot"]
unwanted = ["pahole"]
[root.links]
"usr/bin/cc" = "gcc-9"
"""
PACKAGES = [LockedPackage(name, "1", "0" * 64) for name in ("gcc-9", "make", "proot")]


@pytest.mark.parametrize("name", build_root.names())
def test_every_shipped_toolchain_is_well_formed_and_locked(name: str) -> None:
    loaded = build_root.load(name)
    assert loaded.description
    assert (loaded.root is None) == (name == build_root.HOST)
    if loaded.root is not None:
        for listed in (loaded.root.makers, loaded.root.helpers, loaded.root.entry):
            assert list(listed) == sorted(listed), "keep the list sorted"
        locked = build_root.lock(name)
        assert all(package.path and package.archive for package in locked.package)
        assert locked.archive, "a snapshot needs the dates"
        entered = {"bubblewrap", "proot"} <= {package.name for package in locked.package}
        only_files = name in ("guest-x86_64", "ncurses")
        assert entered != only_files, "nothing runs in a root whose files go elsewhere"


def test_the_hosts_toolchain_exists_and_a_lock_is_none() -> None:
    assert build_root.HOST in build_root.names()
    assert not [name for name in build_root.names() if "lock" in name]


def test_an_unknown_toolchain_lists_the_known_ones(folder: Path) -> None:
    write(folder, "host", 'description = "d"\ncompiler = "gcc"')
    with pytest.raises(UserError) as caught:
        build_root.load("gcc99")
    assert "gcc99" in caught.value.message
    assert "host" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "bullseye"', 'name = "http://x y"', "root.suite"),
        ("suite = {", "suiet = {", "suiet"),
        ('makers = ["gcc-9"]', "", "root.makers"),
        ('helpers = ["make"]', 'helpers = ["make --force"]', "--force"),
        ('"usr/bin/cc"', '"/usr/bin/cc"', "links"),
        ('"usr/bin/cc"', '"../cc"', "links"),
    ],
)
def test_a_malformed_description_names_the_key(folder: Path, old: str, new: str, said: str) -> None:
    assert old in ROOT_TOML
    write(folder, "t", ROOT_TOML.replace(old, new))
    with pytest.raises(UserError) as caught:
        build_root.load("t")
    assert said in caught.value.message
    assert "t.toml" in caught.value.message


def test_a_root_may_have_another_version_than_the_newest(folder: Path) -> None:
    write(folder, "t", ROOT_TOML + '[root.versions]\nmake = "4.2"\n')
    root = build_root.load("t").root
    assert root and root.wanted == ("gcc-9", "make=4.2", "proot")
    write_lock(folder, "t", *PACKAGES)
    with pytest.raises(UserError, match=r"t\.lock\.toml has no version of make=4\.2"):
        build_root.lock("t")
    write_lock(folder, "t", PACKAGES[0], replace(PACKAGES[1], version="4.2"), PACKAGES[2])
    assert len(build_root.lock("t").package) == 3
    write(folder, "t", ROOT_TOML + '[root.versions]\nbash = "5"\n')
    with pytest.raises(UserError, match="versions: 'bash' is none of makers, helpers and entry"):
        build_root.load("t")


def test_a_package_without_a_lock_entry_is_named(folder: Path) -> None:
    write(folder, "t", ROOT_TOML)
    write_lock(folder, "t", *PACKAGES[:2])
    with pytest.raises(UserError, match=r"t\.lock\.toml has no version of proot") as caught:
        build_root.lock("t")
    assert caught.value.hint == "./doit toolchain:lock t"


def test_a_lock_that_cannot_be_read_says_what_writes_it(folder: Path) -> None:
    build_root.lock_path("mine").write_text("<<<<<<< HEAD\n")
    with pytest.raises(UserError, match=r"mine\.lock\.toml: ") as caught:
        build_root.lock("mine")
    assert caught.value.hint == "restore it, or write it anew: ./doit toolchain:lock mine"


def test_a_root_is_another_folder_when_description_or_lock_changes(folder: Path, tmp_path: Path) -> None:
    write(folder, "t", ROOT_TOML)
    write_lock(folder, "t", *PACKAGES)
    first = build_root.root_folder(tmp_path, "t")
    assert build_root.root_folder(tmp_path, "t") == first
    assert first.name == build_root.digest("t")
    write_lock(folder, "t", *PACKAGES[:2], replace(PACKAGES[2], version="2"))
    relocked = build_root.root_folder(tmp_path, "t")
    write(folder, "t", ROOT_TOML.replace("gcc-9", "gcc-8"))
    assert len({first, relocked, build_root.root_folder(tmp_path, "t")}) == 3


PACKERS = {"bzip2", "gzip", "lz4", "lzop", "xz-utils", "zstd"}
"""The packages of the programs that the kernel's build runs to pack a kernel or a module."""


@pytest.mark.parametrize("name", build_root.names())
def test_a_packer_must_have_the_locked_version(name: str) -> None:
    """A kernel, a module or a core is what the packer makes of it."""
    root = build_root.load(name).root
    if root is not None:
        assert not PACKERS & {*root.helpers}


def test_a_fingerprint_is_one_readable_line(folder: Path) -> None:
    write(folder, "t", ROOT_TOML)
    named = [LockedPackage(name, f"{name}-1", "0" * 64) for name in ("binutils", "libc6", "zlib1g")]
    write_lock(folder, "t", *PACKAGES, *named)
    end = build_root.digest("t").removeprefix("t-")
    assert build_root.fingerprint("t") == f"t, binutils binutils-1, gcc-9 1, libc6 libc6-1, root {end}"


def with_packages(folder: Path, cache: Path) -> list[LockedPackage]:
    """Describe toolchain `t`, lock it, and put its packages into the cache."""
    made = []
    contents = {"gcc-9": "usr/bin/gcc-9", "make": "bin/make", "proot": "lib/proot"}
    for name, path in contents.items():
        deb = debs.write(
            folder.parent / f"{name}.deb", {path: b"#!/bin/sh\n", f"usr/share/doc/{name}/copyright": b"c"}
        )
        package = LockedPackage(name, "1", sha256_file(deb))
        package.cached_in(cache).parent.mkdir(parents=True)
        deb.rename(package.cached_in(cache))
        made.append(package)
    write(folder, "t", ROOT_TOML)
    write_lock(folder, "t", *made)
    return made


def forget() -> None:
    """Forget what this process knows of build roots, and release its locks, as if it were a new one."""
    for handle in build_root._held.values():
        os.close(handle)
    build_root._held.clear()
    build_root._whole.clear()


def test_a_root_is_made_of_cached_packages_alone(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    made = with_packages(folder, cache)
    root = build_root.ensure(cache, "t")
    assert (root / "lib").readlink() == Path("usr/lib"), "a merged /usr stays merged"
    assert (root / "usr/bin/make").is_file()
    assert (root / "usr/lib/proot").is_file()
    assert (root / "usr/bin/cc").readlink() == Path("gcc-9")
    assert not list((root / "usr/share/doc").glob("*/copyright"))
    assert (root.parent / build_root.PACKAGES).read_text() == "gcc-9=1\nmake=1\nproot=1\n"
    for package in made:  # it is not made again
        package.cached_in(cache).unlink()
    assert build_root.ensure(cache, "t") == root
    remove_tree(root)
    with pytest.raises(UserError, match="nor are 3 packages"):  # it would be made again
        build_root.ensure(cache, "t")


def test_a_root_without_its_packages_says_what_fetches_them(folder: Path, tmp_path: Path) -> None:
    write(folder, "t", ROOT_TOML)
    write_lock(folder, "t", *PACKAGES)
    with pytest.raises(UserError, match="not in the cache, nor are 3 packages") as caught:
        build_root.ensure(tmp_path / "cache", "t")
    assert "./doit toolchain" in caught.value.hint
    assert not build_root.is_made(tmp_path / "cache", "t")


def test_a_damaged_root_is_mended_while_others_use_it(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    packages = with_packages(folder, cache)
    root = build_root.ensure(cache, "t")
    state = root.stat().st_ino
    (root / "usr/bin/gcc-9").write_bytes(b"#!/bin/false\n")
    (root / "usr/bin/make").unlink()
    assert build_root.is_whole(cache, "t"), "a process looks at a root once"
    forget()
    assert not build_root.is_whole(cache, "t"), "its packages are fetched"
    assert build_root.ensure(cache, "t") == root
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line == (
        "the build root of toolchain t: usr/bin/gcc-9, usr/bin/make changed or are gone since they were "
        "unpacked; unpacking 3 packages again"
    )
    assert (root / "usr/bin/gcc-9").read_bytes() == b"#!/bin/sh\n"
    assert (root / "usr/bin/make").is_file()
    assert root.stat().st_ino == state
    assert build_root.faults(root.parent, read_all=True) == []
    (root / "usr/bin/make").unlink()
    for package in packages:
        package.cached_in(cache).unlink()
    forget()
    with pytest.raises(UserError, match="toolchain t is damaged in the cache, nor are 3 packages") as caught:
        build_root.ensure(cache, "t")
    assert "./doit toolchain" in caught.value.hint


def test_a_root_of_which_nothing_is_recorded_is_compared_with_its_packages(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    with_packages(folder, cache)
    root = build_root.ensure(cache, "t")
    whole = (root / "usr/bin/make").stat()
    (root.parent / file_record.NAME).unlink()
    (root / "usr/bin/gcc-9").write_bytes(b"#!/bin/false\n")
    forget()
    build_root.ensure(cache, "t")
    assert "toolchain t: it is not recorded what was unpacked" in caplog.text
    assert (root / "usr/bin/gcc-9").read_bytes() == b"#!/bin/sh\n"
    assert (root / "usr/bin/make").stat().st_ino == whole.st_ino, "what is right stays"
    assert build_root.faults(root.parent, read_all=True) == []


def test_old_folders_are_removed_unless_a_run_uses_them(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    cache = tmp_path / "cache"
    with_packages(folder, cache)
    old = build_root.ensure(cache, "t").parent
    (cache / "toolchains" / "mine").mkdir()
    (cache / "toolchains" / "mine-0123456789abcdef").mkdir()  # it has no list of packages
    assert build_root.old_folders(cache) == []
    build_root.prune(cache)
    assert "no old build root" in caplog.text
    write(folder, "t", ROOT_TOML + "# another\n")
    assert build_root.old_folders(cache) == [old]
    with (old / build_root.PACKAGES).open() as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)  # another run
        forget()
        build_root.prune(cache)
        assert f"{old} stays: another run uses it" in caplog.text
        assert (old / "root/usr/bin/make").is_file()
    build_root.prune(cache)
    assert f"removed {old}\n" in caplog.text
    names = sorted(path.name for path in (cache / "toolchains").iterdir() if path.is_dir())
    assert names == ["mine", "mine-0123456789abcdef"]


def test_what_old_compilers_kept_goes_too_unless_a_run_uses_it(folder: Path, tmp_path: Path) -> None:
    """This machine's programs may be the toolchain, and then there is no root."""
    write(folder, "t", ROOT_TOML)
    write_lock(folder, "t", *PACKAGES)
    kept = build_root.kept_folder(tmp_path, "t")
    assert kept == tmp_path / "compiled" / build_root.digest("t")
    (kept / "ab").mkdir()
    write(folder, "t", ROOT_TOML + "# another\n")
    now = build_root.kept_folder(tmp_path, "t")
    assert build_root.old_folders(tmp_path) == [kept]
    build_root.prune(tmp_path)
    assert (kept / "ab").is_dir()
    forget()
    build_root.prune(tmp_path)
    assert [path.name for path in kept.parent.iterdir()] == [now.name]


def test_a_run_that_uses_a_root_keeps_it(folder: Path, tmp_path: Path) -> None:
    """Also in a process that did not make it."""
    cache = tmp_path / "cache"
    with_packages(folder, cache)
    assert not build_root.hold(cache, "t")
    root = build_root.ensure(cache, "t")
    assert build_root.hold(cache, "t")
    assert not build_root._remove(root.parent)
    remove_tree(root.parent)  # a person may
    assert not build_root.hold(cache, "t")
    assert build_root.ensure(cache, "t") == root
    assert (root / "usr/bin/make").is_file()
    assert not build_root._remove(root.parent)
