# SPDX-License-Identifier: MIT
"""Compressed streams: found, undone one at a time, refused when damaged, made reproducibly."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.formats import compression
from tasks.util.errors import UserError

CONTENT = b"Tiny Core " * 3000 + bytes(range(256))
MAKE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}
FUZZ = settings(max_examples=60, deadline=None, database=None)


@pytest.mark.parametrize("name", MAKE)
def test_detects_what_others_made(name: str) -> None:
    assert compression.detect(b"abc" + MAKE[name](CONTENT), 3) == name
    assert compression.detect(MAKE[name](b"")) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x02\x21\x4c\x18rest", "lz4"),
        (b"\x04\x22\x4d\x18rest", "lz4"),
        (b"\x89LZO\x00\r\n\x1a\n", "lzo"),
        (b"", "plain"),
        (b"070701", "plain"),
        (b"BZh and other text", "plain"),
        (b"]\0\0 a line", "plain"),
        (b"\x1f\x8b", "plain"),
        (b"\x7fELF", "plain"),
    ],
)
def test_detects_by_magic(head: bytes, name: str) -> None:
    assert compression.detect(head) == name


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("tail", [b"", b"\0" * 300, b"070701", gzip.compress(b"second", mtime=0)])
def test_undoes_one_stream_and_says_where_it_ends(name: str, tail: bytes) -> None:
    packed = MAKE[name](CONTENT)
    content, end = compression.decompress_one(memoryview(b"pad!" + packed + tail), 4)
    assert content == CONTENT
    assert end == 4 + len(packed)


@FUZZ
@given(
    name=st.sampled_from(["gzip", "xz", "zstd"]),
    content=st.binary(max_size=200_000),
    tail=st.binary(max_size=64),
)
def test_what_compress_makes_comes_back(name: str, content: bytes, tail: bytes) -> None:
    packed = compression.compress(content, name, 1)
    assert compression.decompress_one(memoryview(packed + tail), 0) == (content, len(packed))


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_streams_are_named(name: str, keep: float) -> None:
    packed = MAKE[name](os.urandom(5000))
    cut = b"abc" + packed[: int(len(packed) * keep)]
    with pytest.raises(UserError, match=f"{name} stream at offset 3 is truncated"):
        compression.decompress_one(memoryview(cut), 3)


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2", "zstd"])
def test_corrupt_streams_are_named(name: str) -> None:
    # lzma is absent: the format has no check of its own.
    make = {**MAKE, "zstd": zstandard.ZstdCompressor(write_checksum=True).compress}[name]
    packed = bytearray(make(os.urandom(4000)))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(UserError, match=f"{name} stream at offset 0 is (corrupt|truncated)"):
        compression.decompress_one(memoryview(packed), 0)


@pytest.mark.parametrize("name", MAKE)
def test_a_bomb_stops_at_the_limit(name: str) -> None:
    packed = memoryview(MAKE[name](bytes(1 << 20)))
    assert len(compression.decompress_one(packed, 0, 1 << 20)[0]) == 1 << 20
    with pytest.raises(UserError, match="more than the allowed 1048575 bytes"):
        compression.decompress_one(packed, 0, (1 << 20) - 1)


@pytest.mark.parametrize("name", MAKE)
def test_peek_sees_the_start_even_of_a_cut_file(name: str) -> None:
    content = CONTENT + os.urandom(1_900_000)
    packed = MAKE[name](content)
    assert compression.peek(memoryview(packed[: len(packed) // 2]), 0, 1000) == content[:1000]
    assert compression.peek(memoryview(MAKE[name](b"short") + bytes(500_000)), 0, 1000) == b"short"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"plain text", "no compressed stream at offset 0: found 70 6c 61 69"),
        (b"", "found nothing"),
        (b"\x89LZO\x00\r\n\x1a\n" + bytes(20), "LZO is not supported"),
        (b"\x04\x22\x4d\x18" + bytes(20), "LZ4 frame format, which the kernel cannot read"),
        (b"\x02\x21\x4c\x18", "lz4 stream at offset 0 is truncated"),
        (b"\x02\x21\x4c\x18" + struct.pack("<I", 100) + bytes(50), "lz4 stream at offset 0 is truncated"),
    ],
)
def test_says_why_not(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        compression.decompress_one(memoryview(data), 0)


@pytest.mark.parametrize("method", compression.METHODS)
def test_compress_is_reproducible_and_readable_by_others(method: str) -> None:
    packed = compression.compress(CONTENT, method)
    assert packed == compression.compress(CONTENT, method)
    readers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "zopfli": gzip.decompress,
        "xz": lzma.decompress,
        "zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(),
        "plain": bytes,
    }
    assert readers[method](packed) == CONTENT


def test_gzip_header_has_neither_time_nor_name() -> None:
    flags, time = struct.unpack_from("<BI", compression.compress(CONTENT, "gzip"), 3)
    assert (flags, time) == (0, 0)


def test_xz_has_the_check_the_kernel_can_read() -> None:
    """Stream flags 00 01 are CRC32; xz's own default, CRC64, stops the kernel."""
    assert compression.compress(CONTENT, "xz")[6:8] == b"\x00\x01"


@pytest.mark.parametrize(
    ("method", "level", "words"),
    [
        ("lzip", None, "unknown compression"),
        ("gzip", 0, "level 0"),
        ("xz", 10, "level 10"),
        ("zstd", 23, "23"),
    ],
)
def test_compress_refuses(method: str, level: int | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        compression.compress(b"", method, level)


@FUZZ
@given(
    magic=st.sampled_from(
        [
            b"\x1f\x8b\x08",
            b"\xfd7zXZ\0",
            b"BZh91AY&SY",
            b"\x28\xb5\x2f\xfd",
            b"]\0\0\x80\0" + b"\xff" * 8,
            b"",
        ]
    ),
    rest=st.binary(max_size=300),
)
def test_random_bytes_never_do_worse_than_a_user_error(magic: bytes, rest: bytes) -> None:
    data = memoryview(magic + rest)
    try:
        content, end = compression.decompress_one(data, 0, 1 << 24)
    except UserError as error:
        assert "offset 0" in error.message
    else:
        assert 0 < end <= len(data)
        assert compression.peek(data, 0, 10) == content[:10]
