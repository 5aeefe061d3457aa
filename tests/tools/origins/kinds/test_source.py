# SPDX-License-Identifier: MIT
"""Sources of Debian's archive, compiled in pinned build roots: the same bytes twice, and what they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.fetch import recipe_inputs
from tasks.formats.squashfs import squashfs_members
from tasks.origins.sources.file import FileSource
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tests.support.sources import (
    HELLO,
    JSON_C,
    PKGCONF,
    TREE,
    TREE_BUILD,
    Upstream,
    build_extension,
    moved,
    programs,
    with_own_tree,
    write_recipe,
)
from tests.support.tinycore import real

LOADER = 'env = { LDFLAGS = "-Wl,--dynamic-linker=/lib/ld-linux-x86-64.so.2" }\n'
"""Tiny Core's own root has no /lib64."""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return with_own_tree(tmp_path, monkeypatch)


def made(settings: Settings, name: str, upstream: Upstream, more: str) -> Path:
    """Build an extension of a source; return the .tcz."""
    write_recipe(settings.paths.output.with_name("tree"), name, f'kind = "source"\n{upstream.table()}{more}')
    recipe_inputs.lock(settings, name)
    return build_extension(settings, name)


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
    assert sha256_file(build_extension(moved(settings), name)) == first


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
