# SPDX-License-Identifier: MIT
"""Streams made by the real programs, read here; streams made here, read by the real programs."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from tasks.formats import compression
from tasks.util.errors import UserError
from tasks.util.process import require_tool

CONTENT = "\n".join(map(str, range(1_300_000))).encode()  # more than one LZ4 block of 8 MiB
LZ4 = ("lz4", "-l", "-1")
PROGRAMS = {
    "gzip": ("gzip", "-1"),
    "xz": ("xz", "-0", "--check=crc32"),
    "lzma": ("xz", "-0", "--format=lzma"),
    "zstd": ("zstd", "-1"),
    "lz4": LZ4,
}


def filtered(data: bytes, *argv: str) -> bytes:
    return subprocess.run(
        [require_tool(argv[0]), *argv[1:], "-c"], input=data, capture_output=True, check=True
    ).stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_reads_what_the_program_made(name: str) -> None:
    packed = filtered(CONTENT, *PROGRAMS[name])
    data = memoryview(b"\0\0\0\0" + packed + b"\0\0\0\0070701")
    assert compression.detect(data, 4) == name
    content, end = compression.decompress_one(data, 4)
    assert content == CONTENT
    assert end == 4 + len(packed)
    assert compression.peek(data, 4, 5000) == CONTENT[:5000]


@pytest.mark.parametrize(("name", "program"), [("gzip", "gzip"), ("xz", "xz"), ("zstd", "zstd")])
def test_the_program_reads_what_is_made_here(name: str, program: str) -> None:
    assert filtered(compression.compress(CONTENT, name, 1), program, "-d") == CONTENT


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        struct.pack("<I", len(CONTENT)),  # a kernel payload's size
        b"\0" * 64,
        b"070701",
        filtered(b"second", "gzip", "-n"),
        filtered(b"second", *LZ4),
        filtered(b"second", "xz"),
    ],
)
def test_lz4_ends_where_something_else_starts(tail: bytes) -> None:
    """The legacy format has no end mark."""
    packed = filtered(CONTENT, *LZ4)
    assert compression.decompress_one(memoryview(packed + tail), 0) == (CONTENT, len(packed))


def test_lz4_damage_and_bombs() -> None:
    packed = bytearray(filtered(b"Tiny Core" * 5000, *LZ4))
    packed[9] ^= 0xFF
    packed[-20:] = b"\xff" * 20
    with pytest.raises(UserError, match="lz4 stream at offset 0 is corrupt"):
        compression.decompress_one(memoryview(packed), 0)
    bomb = filtered(bytes(40 << 20), *LZ4)
    with pytest.raises(UserError, match="more than the allowed 1000000 bytes"):
        compression.decompress_one(memoryview(bomb), 0, 1_000_000)


def test_lz4_frames_of_todays_lz4_are_refused(tmp_path: Path) -> None:
    """`lz4` without -l makes them, and the kernel answers "invalid magic" while it boots."""
    with pytest.raises(UserError, match="which the kernel cannot read") as caught:
        compression.decompress_one(memoryview(filtered(b"text", "lz4")), 0)
    assert "lz4 -l" in caught.value.hint
