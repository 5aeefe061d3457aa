# SPDX-License-Identifier: MIT
"""Read the program headers of ELF cores, as QEMU writes one of a guest's memory.

Such a core has a segment for each stretch of virtual addresses, which may be more than the 65,534 that
e_phnum can count: then sh_info of the first section header has the number (gABI, "ELF header", PN_XNUM).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.util.errors import UserError

MAGIC = b"\x7fELF"
LITTLE_ENDIAN = 1
PT_LOAD = 1
PN_XNUM = 0xFFFF
MOST = 1 << 24  # program headers: more are damage


@dataclass(frozen=True)
class Layout:
    """Where the fields stand in the files of one word size.

    phoff, shoff, phnum: offsets of e_phoff, e_shoff and e_phnum in the ELF header; letter: of struct, for the
    first two.  info: offset of sh_info in a section header.
    header: letters of struct for a program header; fields: the places of p_offset, p_vaddr, p_filesz in it.
    """

    phoff: int
    shoff: int
    letter: str
    phnum: int
    info: int
    header: str
    fields: tuple[int, int, int]


LAYOUTS = {
    1: Layout(28, 32, "<I", 44, 28, "<IIIIIIII", (1, 2, 4)),
    2: Layout(32, 40, "<Q", 56, 44, "<IIQQQQQQ", (2, 3, 5)),
}


@dataclass(frozen=True)
class Segment:
    """A stretch of memory: its place in the file, its virtual address, and its bytes in the file."""

    offset: int
    address: int
    size: int


def segments(path: Path) -> Iterator[Segment]:
    """Yield the segments with memory (PT_LOAD).  Raises `UserError` for a file that is no whole core."""
    with path.open("rb") as stream:
        head = stream.read(64)
        layout = LAYOUTS.get(head[4]) if len(head) == 64 and head.startswith(MAGIC) else None
        if layout is None or head[5] != LITTLE_ENDIAN:
            raise UserError(f"{path} is no ELF core")
        (start,) = struct.unpack_from(layout.letter, head, layout.phoff)
        (count,) = struct.unpack_from("<H", head, layout.phnum)
        if count == PN_XNUM:
            (sections,) = struct.unpack_from(layout.letter, head, layout.shoff)
            stream.seek(sections + layout.info)
            count = int.from_bytes(stream.read(4), "little")
        size = struct.calcsize(layout.header)
        stream.seek(start)
        table = stream.read(count * size) if count < MOST else b""
        if len(table) != count * size:
            raise UserError(f"{path}: the table of its {count:,} program headers is cut short")
    for words in struct.iter_unpack(layout.header, table):
        if words[0] == PT_LOAD:
            yield Segment(*(words[place] for place in layout.fields))
