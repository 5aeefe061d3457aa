# SPDX-License-Identifier: MIT
"""A core file as it is listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.formats import compression, cpio, initramfs_file
from tasks.formats.cpio import Member, device, directory, regular, symlink
from tasks.util.errors import UserError


@pytest.mark.parametrize(
    ("member", "line"),
    [
        (regular("a", b"123", 0o4755, 1, 50), "-rwsr-xr-x   1     1    50         3 1970-01-01 a"),
        (directory("t", 0o1777), "drwxrwxrwt   2     0     0         0 1970-01-01 t"),
        (device("n", "c", 5, 1), "crw-------   1     0     0      5, 1 1970-01-01 n"),
        (symlink("l", "to\n"), "lrwxrwxrwx   1     0     0         3 1970-01-01 l -> to\\n"),
        (
            replace(regular("é\x1b[2J\udcff", b""), mtime=1700000000),
            "-rw-r--r--   1     0     0         0 2023-11-14 é\\x1b[2J\\udcff",
        ),
    ],
)
def test_listing_lines(member: Member, line: str) -> None:
    assert initramfs_file.listing_line(member) == line


def test_list_core_prints_every_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = compression.compress(cpio.write([regular("a", b"1")], mtime=0), "gzip")
    two = compression.compress(cpio.write([regular("b", b"2")], mtime=0), "zstd")
    (tmp_path / "core.gz").write_bytes(one + bytes(-len(one) % 4 + 4) + two)
    initramfs_file.list_core(tmp_path / "core.gz")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# archive 1: gzip, 1 members"
    assert [line.split()[-1] for line in lines if not line.startswith("#")] == ["a", "b"]


MICROCODE = cpio.write(
    [
        directory("kernel"),
        directory("kernel/x86"),
        regular("kernel/x86/microcode/AuthenticAMD.bin", b"x" * 9),
    ],
    mtime=0,
)
ROOT = compression.compress(cpio.write([regular("init", b"")], mtime=0), "gzip")


def headings(path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines of a listing that tell of archives; the error, if there is one, as the last."""
    said = []
    try:
        initramfs_file.list_core(path)
    except UserError as error:
        said.append(error.message)
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("#")] + said


def test_microcode_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "core.gz"
    path.write_bytes(MICROCODE + ROOT)
    assert headings(path, capsys) == [
        "# archive 1: plain, 3 members, read first (microcode)",
        "# archive 2: gzip, 1 members",
    ]


@pytest.mark.parametrize(
    "data", [ROOT + bytes(-len(ROOT) % 4) + MICROCODE, ROOT + compression.compress(MICROCODE, "gzip")]
)
def test_microcode_that_lost_its_place_is_an_error(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "core.gz"
    path.write_bytes(data)
    *listed, error = headings(path, capsys)
    assert not any("microcode" in line for line in listed)
    assert error == f"{path}: archive 2 has microcode, which the kernel does not find there"
