# SPDX-License-Identifier: MIT
"""Where two built files differ, with the real programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.formats import cpio, iso9660
from tasks.formats.initramfs_file import Archive
from tasks.initramfs import core
from tasks.provenance.reproduce import compare
from tasks.util.process import run


def test_where_an_iso_differs(tmp_path: Path) -> None:
    """Through the ISO into its core into a member."""
    images = []
    for side, text in (("a", b"one thing"), ("b", b"one other")):
        tree = tmp_path / side
        (tree / "boot").mkdir(parents=True)
        (tree / "boot/same").write_bytes(b"same" * 1000)
        members = (cpio.directory("etc"), cpio.regular("etc/motd", text))
        core.write_core([Archive("gzip", members)], tree / "boot/corepure64.gz", mtime=1)
        images.append(tmp_path / f"{side}.iso")
        run(["xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", images[-1], tree])
    assert set(iso9660.extents(images[0])) == {"boot/same", "boot/corepure64.gz"}
    told = compare.difference(*images)
    assert "boot/corepure64.gz: byte " in told
    assert told.endswith("archive 1: etc/motd: byte 4")
    assert compare.difference(images[0], images[0]) == ""


def test_where_a_module_differs(tmp_path: Path) -> None:
    """A string in a section, as a date that a driver prints."""
    for side, text in (("a", "Mon"), ("b", "Tue")):
        (tmp_path / f"{side}.c").write_text(f'const char built[] = "on {text}"; int x(void) {{ return 1; }}')
        run(["gcc", "-c", "-o", tmp_path / f"{side}.ko", tmp_path / f"{side}.c"])
    assert "section .rodata, byte 3 of it" in compare.difference(tmp_path / "a.ko", tmp_path / "b.ko")


@pytest.mark.parametrize(
    "one, other, expected",
    [
        ([cpio.regular("a", b"x")], [cpio.regular("b", b"x")], "only the first build has 'a'"),
        ([cpio.regular("a", b"x")], [], "only the first build has 'a'"),
        ([cpio.regular("a", b"x", 0o644)], [cpio.regular("a", b"x", 0o600)], "a: mode 0o100644 and 0o100600"),
        ([cpio.regular("a", b"x", uid=1)], [cpio.regular("a", b"x")], "a: uid 1 and 0"),
        ([cpio.regular("a", b"xy")], [cpio.regular("a", b"x")], "a: byte 1 (2 and 1 bytes long)"),
    ],
)
def test_where_members_differ(
    tmp_path: Path, one: list[cpio.Member], other: list[cpio.Member], expected: str
) -> None:
    for side, members in (("a", one), ("b", other)):
        core.write_core([Archive("gzip", (cpio.directory("."), *members))], tmp_path / f"{side}.gz", mtime=1)
    assert compare.difference(tmp_path / "a.gz", tmp_path / "b.gz").endswith(f"archive 1: {expected}")
