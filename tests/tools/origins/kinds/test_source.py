# SPDX-License-Identifier: MIT
"""Sources of Debian's archive, compiled in pinned build roots: the same bytes twice, and what they need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import plan, recipe_lock
from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.extensions import build
from tasks.fetch import recipe_inputs, toolchain
from tasks.formats import elf
from tasks.formats.squashfs import squashfs_members
from tasks.origins.lock import Lock
from tasks.origins.sources.file import FileSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tests.support.built import built
from tests.support.settings import record_lock
from tests.support.sources import HELLO, JSON_C, PKGCONF, TREE, TREE_BUILD, Upstream, write_recipe
from tests.support.tinycore import real

LOADER = 'env = { LDFLAGS = "-Wl,--dynamic-linker=/lib/ld-linux-x86-64.so.2" }\n'
"""Tiny Core's own root has no /lib64."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The built image's base, and a tree of one's own."""
    image = built()
    monkeypatch.setattr(CHECKOUT, "trees", (tmp_path / "tree",))
    made = replace(image, paths=replace(image.paths, output=tmp_path / "out"))
    made.paths.output.mkdir()
    made.paths.rootfs.symlink_to(image.paths.rootfs)
    record_lock(made, Lock())
    yield made


def made(settings: Settings, name: str, upstream: Upstream, more: str) -> Path:
    """Build an extension of a source; return the .tcz."""
    write_recipe(settings.paths.output.with_name("tree"), name, f'kind = "source"\n{upstream.table()}{more}')
    recipe_inputs.lock(settings, name)
    return again(settings, name)


def again(settings: Settings, name: str) -> Path:
    recipe_inputs.fetch(settings, name)
    origins = recipe_lock.lockable_origins(plan.recipe_of(settings.profile, name))
    toolchain.make_roots(settings, [origin.toolchain for origin in origins])
    build.build(settings, name)
    return settings.paths.tcz / f"{name}.tcz"


def programs(tcz: Path) -> dict[str, bytes]:
    members = squashfs_members(tcz)
    return {one.name: one.data for one in members if one.data.startswith(elf.MAGIC)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "upstream", "more", "program"),
    [
        ("tree", TREE, TREE_BUILD, "usr/local/bin/tree"),
        ("hello", HELLO, 'build = "autotools"\noptions = ["--disable-nls"]\n', "usr/local/bin/hello"),
        ("json-c", JSON_C, 'build = "cmake"\n', "usr/local/lib/libjson-c.so.5.2.0"),
        ("pkgconf", PKGCONF, 'build = "meson"\noptions = ["-Dtests=false"]\n', "usr/local/bin/pkgconf"),
    ],
    ids=["make", "autotools", "cmake", "meson"],
)
def test_each_build_system_gives_the_same_bytes_in_another_folder(
    settings: Settings, name: str, upstream: Upstream, more: str, program: str
) -> None:
    tcz = made(settings, name, upstream, more)
    assert program in programs(tcz)
    assert not any(one.name.endswith(".la") for one in squashfs_members(tcz))
    first = sha256_file(tcz)
    elsewhere = settings.paths.output.rename(settings.paths.output.with_name("another-folder-of-results"))
    settings = replace(settings, paths=replace(settings.paths, output=elsewhere))
    assert sha256_file(again(settings, name)) == first


@pytest.mark.slow
def test_the_build_root_must_fit_the_c_library_of_the_base(settings: Settings) -> None:
    """Tiny Core 11's own root has version 2.30, Debian 11's build root 2.31, and Debian 12's 2.36."""
    core = Core(archives=(FileSource(path=str(real("x86_64/rootfs64.gz"))),))
    settings = replace(settings, profile=replace(settings.profile, core=core))
    with pytest.raises(UserError, match=r"tree needs GLIBC_2\.3\d of libc\.so\.6; the base has up to 2\.30"):
        made(settings, "too-new", TREE, TREE_BUILD + LOADER)
    old = replace(settings.profile, programs_toolchain="debian11-source")
    tcz = made(replace(settings, profile=old), "tree", TREE, TREE_BUILD + LOADER)
    assert list(programs(tcz)) == ["usr/local/bin/tree"]


@pytest.mark.slow
def test_what_does_not_compile_is_told_in_one_line(settings: Settings) -> None:
    cause = r"^hello_2\.10\.orig\.tar\.gz: .*: configure: error: C compiler cannot create executables\n"
    with pytest.raises(UserError, match=cause) as caught:
        made(settings, "hello", HELLO, 'build = "autotools"\nenv = { CC = "gcc --no-such-option" }\n')
    assert "\n" not in caught.value.message
