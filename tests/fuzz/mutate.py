# SPDX-License-Identifier: MIT
"""Damage, as a hypothesis strategy: a good input with some bytes changed, moved, cut or repeated."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypothesis import strategies as st

# What sizes and counts of a format are not expected to be; as numbers and in cpio's hex digits.
NUMBERS = (0, 1, 0x7F, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = tuple(
    word
    for number in NUMBERS
    for word in (struct.pack("<I", number), struct.pack(">I", number), b"%08X" % number)
)
TEXT = (
    *(b"", b"\n", b"\r\n", b"\0", b"=", b'"', b"'", b'"""', b"[", b"]", b"[[", b"{", b"}", b",", b"#", b"\\"),
    *(
        b"../",
        b"/",
        b"..",
        b"-",
        b"%s",
        b"{version}",
        b"1e999",
        b"-1",
        b"nan",
        b"true",
        b"null",
        b"[]",
        b"{}",
    ),
    *("é".encode(), b"\xff\xfe", b"\xed\xa0\x80", b"9" * 400, b"[" * 2000, b"a." * 300),
)


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed after one to six edits; now and then anything at all."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=64))
    data = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(1, 6))):
        _edit(draw, data)
    return bytes(data)


def _edit(draw: st.DrawFn, data: bytearray) -> None:
    place = draw(st.integers(0, len(data)))
    match draw(st.integers(0, 7)):
        case 0 if data:
            data[min(place, len(data) - 1)] ^= 1 << draw(st.integers(0, 7))
        case 1:
            data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        case 2:
            word = draw(st.sampled_from(WORDS))
            data[place : place + len(word)] = word
        case 3:
            data[place:place] = draw(st.sampled_from(TEXT))
        case 4:
            del data[place : place + draw(st.integers(1, 64))]
        case 5:
            piece = data[place : place + draw(st.integers(1, 64))]
            where = draw(st.integers(0, len(data)))
            data[where:where] = piece
        case 6:
            del data[place:]
        case _:
            data[place:place] = draw(st.binary(max_size=8))
