# SPDX-License-Identifier: MIT
"""Extensions and archives from elsewhere that bring what they should not, with the real tools."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.extensions import build
from tasks.formats import cpio, initramfs_file, squashfs, unpack_limits
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tasks.util.process import run
from tests.support.workshop import INFO, Workshop, origin


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small archives be bombs already."""
    monkeypatch.setattr(unpack_limits, "ALWAYS_ALLOWED", 1 << 20)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_many_streams_together_are_a_bomb(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Each of them may be what it is; all of them may not."""
    one = pack(cpio.write([cpio.regular("zeros", bytes(900 << 10))], mtime=0))
    one += bytes(-len(one) % 4)
    path = tmp_path / "core.gz"
    path.write_bytes(one)
    assert len(initramfs_file.read_core(path)) == 1
    path.write_bytes(one * 2)
    with pytest.raises(UserError, match=r"core\.gz: .* stream at offset \d+ unpacks to more than") as caught:
        initramfs_file.read_core(path)
    assert str(len(one)) in caught.value.message


def set_id(workshop: Workshop, more: str) -> None:
    """A package with a set-user-id program, and a recipe that takes it."""
    workshop.package("tool", {"usr/bin/su": b"su", "usr/bin/plain": b"plain"})
    deb = workshop.packages[0].cached_in(workshop.settings.paths.cache)
    tree = workshop.folder / "trees/tool"
    (tree / "usr/bin/su").chmod(0o4755)
    run(["dpkg-deb", "--root-owner-group", "--build", tree, deb])
    fresh = replace(workshop.packages[0], sha256=sha256_file(deb))
    fresh.cached_in(workshop.settings.paths.cache).parent.mkdir(exist_ok=True)
    deb.rename(fresh.cached_in(workshop.settings.paths.cache))
    workshop.packages = (fresh,)
    workshop.extension("tool", f"{more}\n{INFO}{origin('tool')}")


def test_set_id_program_must_be_declared(workshop: Workshop) -> None:
    set_id(workshop, "")
    with pytest.raises(UserError, match="extension tool: usr/bin/su would run as its owner") as caught:
        build.build(workshop.settings, "tool")
    assert 'setuid = ["usr/bin/su"]' in caught.value.hint
    assert not (workshop.settings.paths.tcz / "tool.tcz").exists()


def test_declared_set_id_program_is_taken(workshop: Workshop) -> None:
    set_id(workshop, 'setuid = ["usr/bin/su"]')
    build.build(workshop.settings, "tool")
    found = {m.name: oct(m.mode) for m in squashfs.squashfs_members(workshop.settings.paths.tcz / "tool.tcz")}
    assert found["usr/bin/su"] == "0o104755"


def test_declared_set_id_program_must_be_one(workshop: Workshop) -> None:
    set_id(workshop, 'setuid = ["usr/bin/su", "usr/bin/plain"]')
    with pytest.raises(UserError, match="usr/bin/plain has no set-id bit"):
        build.build(workshop.settings, "tool")


def test_join_takes_no_link_to_a_file_of_this_machine(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of this machine")
    tree = workshop.folder / "trees/tool"
    (tree / "usr").mkdir(parents=True)
    (tree / "usr/a.crt").symlink_to(tmp_path / "secret")
    workshop.package("tool", {"usr/b.crt": b"b"})
    workshop.extension("tool", INFO + origin("tool", more='join = { "usr/all" = "usr/*.crt" }'))
    with pytest.raises(UserError, match=r"tool: usr/a\.crt is no file, and `join` takes only files"):
        build.build(workshop.settings, "tool")
