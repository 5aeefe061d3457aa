# SPDX-License-Identifier: MIT
"""The segments of ELF cores of both word sizes, with more of them than their header can count."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tasks.formats import elf_core
from tasks.formats.elf_core import Segment
from tasks.util.errors import UserError

MANY = 70_000
NOTE, LOAD = 4, 1


def core(bits: int, count: int) -> bytes:
    """A core without memory: a note, and segments of one page each."""
    word = "Q" if bits == 64 else "I"
    head_size, section_size = (64, 64) if bits == 64 else (52, 40)
    header = {64: "<IIQQQQQQ", 32: "<IIIIIIII"}[bits]
    number = count + 1
    table = head_size + section_size
    shown = min(number, 0xFFFF)
    head = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9) + struct.pack("<HHI", 4, 62, 1)
    head += struct.pack(f"<{word}{word}{word}", 0, table, head_size)
    head += struct.pack("<IHHHHHH", 0, head_size, struct.calcsize(header), shown, section_size, 1, 0)
    section = struct.pack(f"<II{word}{word}{word}{word}II", 0, 0, 0, 0, 0, 0, 0, number)
    rows = []
    for at in range(number):
        kind, offset, address, size = (NOTE if at == 0 else LOAD, at << 12, at << 13, 4096)
        rows.append(
            struct.pack(header, kind, 0, offset, address, 0, size, size, 0)
            if bits == 64
            else struct.pack(header, kind, offset, address, 0, size, size, 0, 0)
        )
    return head + section.ljust(section_size, b"\0") + b"".join(rows)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("count", [2, MANY])
def test_every_segment_of_memory_is_found(tmp_path: Path, bits: int, count: int) -> None:
    path = tmp_path / "core"
    path.write_bytes(core(bits, count))
    found = list(elf_core.segments(path))
    assert len(found) == count
    assert found[-1] == Segment(count << 12, count << 13, 4096)


def test_what_is_no_whole_core_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "core"
    for content, message in (
        (b"", "is no ELF core"),
        (b"\x7fELF\x03" + bytes(100), "is no ELF core"),
        (core(64, 9)[:-1], "the table of its 10 program headers is cut short"),
        (core(64, MANY)[:200], "is cut short"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            list(elf_core.segments(path))
