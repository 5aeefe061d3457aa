# SPDX-License-Identifier: MIT
"""What archives hold, as a manifest lists it: squashfs images and cores made by the real tools."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tasks.formats import cpio
from tasks.formats.initramfs_file import Archive
from tasks.initramfs import core
from tasks.provenance import archive_members
from tasks.util.errors import DiskFull, UserError
from tests.support.squashed import squashed

SHA256 = hashlib.sha256(b"data").hexdigest()


def test_a_squashfs_image_has_every_property_of_its_members(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/tool").write_bytes(b"data")
    (tmp_path / "files/link").symlink_to("tool")
    image = squashed(tmp_path / "files", tmp_path / "x.tcz", "tool m 4755 3 4", "disk b 660 0 6 8 17")
    found = {part.path: part for part in archive_members.of_squashfs(image)}
    tool = found["tool"]
    assert (tool.mode, tool.owner, tool.size, tool.sha256) == ("-rwsr-xr-x", "3:4", 4, SHA256)
    assert (found["link"].mode[0], found["link"].target) == ("l", "tool")
    assert (found["disk"].mode, found["disk"].device) == ("brw-rw----", "8:17")


def test_an_image_larger_than_the_limit_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/zeros").write_bytes(bytes(4 << 20))
    image = squashed(tmp_path / "files", tmp_path / "x.tcz")
    with pytest.raises(
        UserError, match=r"x\.tcz: sqfs2tar was stopped: it unpacks to more than 1,048,576"
    ) as caught:
        archive_members.of_squashfs(image, limit=1 << 20)
    assert not isinstance(caught.value, DiskFull)
    assert "at most 1,048,576 bytes unpacked" in caught.value.hint


def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tcz").write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        archive_members.of_squashfs(tmp_path / "x.tcz")
    assert "x.tcz must be a whole squashfs file" in caught.value.hint


def test_a_core_has_its_archives_in_order(tmp_path: Path) -> None:
    first = Archive("plain", (cpio.regular("a", b"data"),))
    second = Archive("gzip", (cpio.directory("d"), cpio.symlink("l", "../a")))
    core.write_core([first, second], tmp_path / "core.gz", mtime=1)
    one, two = archive_members.of_core(tmp_path / "core.gz")
    assert (one.method, two.method) == ("plain", "gzip")
    assert [(part.path, part.sha256, part.size) for part in one.members] == [("a", SHA256, 4)]
    assert [(part.path, part.mode[0], part.target) for part in two.members] == [
        ("d", "d", ""),
        ("l", "l", "../a"),
    ]
