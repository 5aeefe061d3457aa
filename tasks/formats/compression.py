# SPDX-License-Identifier: MIT
"""Detect, decompress and make compressed streams in the formats of the kernel.

The formats and magics are those of the kernel's lib/decompress.c.  A kernel payload is one
stream; in most formats four bytes with its unpacked size follow.  An initramfs is a series of
streams and plain cpio archives, with zero bytes between them (Documentation/driver-api/
early-userspace/buffer-format.rst).  Therefore `decompress_one` decompresses exactly one
stream and returns the offset of its end.
"""

from __future__ import annotations

import bz2
import ctypes
import lzma
import struct
import tempfile
import zlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Protocol

import deflate
import zopfli.gzip
import zstandard

from tasks.util.errors import UserError
from tasks.util.process import run

Buffer = bytes | bytearray | memoryview

LIMIT = 2 << 30
"""Bytes that one stream may unpack to.  The x86-64 kernel has 1 GiB of address space, and an
initramfs must fit in RAM twice, so a larger stream is damaged or a bomb."""

GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
BZIP2_MARKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")  # BCD digits of pi and of its square root
LZO = b"\x89LZO\x00\r\n\x1a\n"
LZ4_LEGACY = b"\x02\x21\x4c\x18"  # 0x184C2102: the format of `lz4 -l`, which the kernel reads
LZ4_FRAME = b"\x04\x22\x4d\x18"  # 0x184D2204: the default format of lz4
LZ4_BLOCK = 8 << 20  # unpacked size of every legacy block but the last
LZ4_BOUND = LZ4_BLOCK + LZ4_BLOCK // 255 + 16  # LZ4_compressBound() of one
GZIP_AS_LZ4_SIZE = 0x00088B1F  # a gzip header read as the size of an LZ4 block

INPUT_PIECE = 64 << 10
# zstandard has no limit on its output.  An RLE block of 4 bytes unpacks to 128 KiB, so small
# pieces of input keep the output of each piece below 128 MiB.
ZSTD_INPUT_PIECE = 4 << 10
ZSTD_WINDOW = 1 << 27  # ZSTD_WINDOWSIZE_MAX of the kernel's lib/decompress_unzstd.c
LZMA_MEMORY = 1 << 30

METHODS = ("gzip", "zopfli", "xz", "zstd", "plain")
LEVELS = {"gzip": (9, 1, 12), "zopfli": (15, 1, 1000), "xz": (6, 0, 9), "zstd": (19, 1, 22)}
"""Method -> (default, lowest, highest) level of `compress`.

gzip has the levels of libdeflate: level 9 makes smaller streams than `gzip -9` in a quarter
of its time, level 12 still smaller ones in two thirds of its time.  zopfli makes gzip streams,
too; its level is the number of iterations.  Level 6 of xz has a dictionary of 8 MiB, which the
kernel must allocate at boot (Documentation/staging/xz.rst).  Level 22 of zstd has a window of
128 MiB (ZSTD_WINDOW)."""
KERNEL_OPTIONS = {
    "gzip": "RD_GZIP",
    "bzip2": "RD_BZIP2",
    "lzma": "RD_LZMA",
    "xz": "RD_XZ",
    "lzo": "RD_LZO",
    "lz4": "RD_LZ4",
    "zstd": "RD_ZSTD",
}
"""Format -> the option of the kernel that unpacks an initramfs of this format (usr/Kconfig)."""


class _Decoder(Protocol):
    """The attributes common to the decoders of zlib, bz2, lzma and zstandard."""

    @property
    def unused_data(self) -> bytes: ...

    @property
    def eof(self) -> bool: ...


def detect(data: Buffer, offset: int = 0) -> str:
    """Return the format of the stream at `offset`.

    One of "gzip", "xz", "lzma", "bzip2", "zstd", "lz4", "lzo", or "plain" for anything else.
    """
    head = bytes(data[offset : offset + 16])
    magics = {GZIP: "gzip", XZ: "xz", ZSTD: "zstd", LZO: "lzo", LZ4_LEGACY: "lz4", LZ4_FRAME: "lz4"}
    for magic, name in magics.items():
        if head.startswith(magic):
            return name
    # "BZh" alone may be text, so a level digit and a block mark or end mark must follow.
    if head[:3] == BZIP2 and head[3:4].isdigit() and head[4:10] in BZIP2_MARKS:
        return "bzip2"
    return "lzma" if _is_lzma(head) else "plain"


def _is_lzma(head: bytes) -> bool:
    # .lzma has no magic.  lib/decompress.c checks for "5d 00".  To exclude chance, the dictionary
    # (2^n or 2^n + 2^(n-1)) and the unpacked size (unknown or below 256 GiB) are checked as xz does.
    if len(head) < 13 or head[0] != 0x5D:
        return False
    dictionary, size = struct.unpack_from("<IQ", head, 1)
    lowest = dictionary & -dictionary
    dictionary_fits = dictionary >= 4096 and dictionary in (lowest, lowest | lowest << 1)
    return dictionary_fits and (size == (1 << 64) - 1 or size < 1 << 38)


def decompress_one(data: memoryview, offset: int, limit: int = LIMIT) -> tuple[bytes, int]:
    """Decompress the one stream at `offset`; return its content and the offset just after it.

    Another archive, padding or a kernel's size trailer may follow; the caller reads them.
    Raises `UserError` naming format and offset if the stream is of no supported format,
    truncated or corrupt, or if it unpacks to more than `limit` bytes.
    """
    data = memoryview(data).cast("B")
    name = _supported_format(data, offset)
    if name == "lz4":
        return _decompress_lz4(data, offset, limit)
    try:
        return _decompress_stream(name, data, offset, limit)
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, ValueError) as error:
        # For damaged input bz2 raises OSError("Invalid data stream") and ValueError.
        raise _corrupt(name, offset, str(error)) from None


def peek(data: memoryview, offset: int, size: int) -> bytes:
    """Return the first `size` bytes of content of the stream at `offset`, or all if it has fewer.

    The stream may be truncated.  Raises `UserError` as `decompress_one` does.
    """
    data = memoryview(data).cast("B")
    name = _supported_format(data, offset)
    if name == "lz4":
        end = _lz4_end(data, offset, max_blocks=1)
        return _lz4_tool(data[offset:end], offset)[:size]
    try:
        feed, decoder, step = _decoder(name)
        found = b""
        for start in range(offset, len(data), step):
            found += feed(data[start : start + step], size - len(found))
            if len(found) >= size or decoder.eof:
                break
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, ValueError) as error:
        if found:
            return found
        raise _corrupt(name, offset, str(error)) from None
    return found[:size]


def _supported_format(data: memoryview, offset: int) -> str:
    name = detect(data, offset)
    if name == "plain":
        head = bytes(data[offset : offset + 4]).hex(" ") or "nothing"
        raise UserError(f"no compressed stream at offset {offset}: found {head}")
    if name == "lzo":
        raise UserError(
            f"lzo stream at offset {offset}: LZO is not supported here",
            "unpack it with `lzop -d`, or compress with gzip, xz, zstd or lz4 instead",
        )
    return name


def _decoder(name: str) -> tuple[Callable[[memoryview, int], bytes], _Decoder, int]:
    """Return (feed(piece, max_bytes), decoder, bytes of input a call) for a format."""
    if name == "gzip":
        gzip = zlib.decompressobj(wbits=31)  # 16 + 15: accept a gzip header only
        return gzip.decompress, gzip, INPUT_PIECE
    if name == "bzip2":
        bzip2 = bz2.BZ2Decompressor()
        return bzip2.decompress, bzip2, INPUT_PIECE
    if name in ("xz", "lzma"):
        kind = lzma.FORMAT_XZ if name == "xz" else lzma.FORMAT_ALONE
        xz = lzma.LZMADecompressor(kind, memlimit=LZMA_MEMORY)
        return xz.decompress, xz, INPUT_PIECE
    zstd = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
    return (lambda piece, max_bytes: zstd.decompress(piece)), zstd, ZSTD_INPUT_PIECE


def _decompress_stream(name: str, data: memoryview, offset: int, limit: int) -> tuple[bytes, int]:
    feed, decoder, step = _decoder(name)
    pieces: list[bytes] = []
    total = 0
    for start in range(offset, len(data), step):
        stop = min(start + step, len(data))
        # One byte above the limit shows that the stream is too large.
        piece = feed(data[start:stop], limit - total + 1)
        total += len(piece)
        if total > limit:
            raise _too_big(name, offset, limit)
        pieces.append(piece)
        if decoder.eof:
            return b"".join(pieces), stop - len(decoder.unused_data)
    raise _truncated(name, offset, len(data), total)


def _lz4_end(data: memoryview, offset: int, max_blocks: int = 0) -> int:
    """Return where the legacy LZ4 stream at `offset` ends, or its first `max_blocks` blocks.

    The format has no end mark.  The stream is a series of blocks (32-bit size, data), and it
    ends before the first bytes that are no block, as in the kernel's lib/decompress_unlz4.c.
    """
    if data[offset : offset + 4] == LZ4_FRAME:
        raise UserError(
            f"lz4 stream at offset {offset} is in the LZ4 frame format, which the kernel cannot read",
            "compress it again with `lz4 -l` (legacy format)",
        )
    end, blocks = offset + 4, 0
    while len(data) - end >= 4 and not (max_blocks and blocks == max_blocks):
        (size,) = struct.unpack_from("<I", data, end)
        left = len(data) - end - 4
        no_block = size == 0 or size > LZ4_BOUND or size == GZIP_AS_LZ4_SIZE
        if no_block or (blocks and left == 0):  # left == 0: a kernel payload's size trailer
            break
        if size > left:
            raise _truncated("lz4", offset, len(data), blocks * LZ4_BLOCK)
        end += 4 + size
        blocks += 1
    if not blocks:
        raise _truncated("lz4", offset, len(data), 0)
    return end


def _decompress_lz4(data: memoryview, offset: int, limit: int) -> tuple[bytes, int]:
    end = _lz4_end(data, offset)
    # Every block but the last unpacks to 8 MiB, and LZ4 data grows at most 255 times.
    if (end - offset) * 255 > limit and _lz4_blocks(data, offset, end) - 1 > limit // LZ4_BLOCK:
        raise _too_big("lz4", offset, limit)
    content = _lz4_tool(data[offset:end], offset)
    if len(content) > limit:
        raise _too_big("lz4", offset, limit)
    return content, end


def _lz4_blocks(data: memoryview, offset: int, end: int) -> int:
    place, count = offset + 4, 0
    while place < end:
        place += 4 + int(struct.unpack_from("<I", data, place)[0])
        count += 1
    return count


def _lz4_tool(stream: memoryview, offset: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tcbuild-lz4-") as folder:
        packed, unpacked = Path(folder, "stream.lz4"), Path(folder, "content")
        packed.write_bytes(stream)
        result = run(["lz4", "-d", "-c", "-q", packed], stdout=unpacked, check=False)
        if result.status != 0:
            raise _corrupt("lz4", offset, f"lz4 exit status {result.status}")
        return unpacked.read_bytes()


def compress(data: bytes, method: str, level: int | None = None) -> bytes:
    """Return `data` as one stream that the kernel can unpack; equal input gives equal bytes.

    method: one of METHODS.  level: None means the default in LEVELS.  A gzip header holds
    neither name nor time.  An xz stream has a CRC32 check, the only one that the kernel's
    decoder supports (Documentation/staging/xz.rst).  Raises `UserError` as `checked_level` does.
    """
    level = checked_level(method, level)
    if method == "plain":
        return data
    if method == "gzip":
        return bytes(deflate.gzip_compress(data, level))
    if method == "zopfli":
        return bytes(zopfli.gzip.compress(data, numiterations=level))
    if method == "xz":
        return lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=level)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(data), write_content_size=True, write_checksum=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def checked_level(method: str, level: int | None) -> int:
    """Return the level that `compress` uses; 0 for "plain".

    Raises `UserError` for an unknown method or a level outside its range.
    """
    if method not in METHODS:
        raise UserError(f"unknown compression {method!r}", f"one of: {', '.join(METHODS)}")
    default, lowest, highest = LEVELS.get(method, (0, 0, 0))
    chosen = default if level is None else level
    if not lowest <= chosen <= highest:
        raise UserError(f"{method} level {level} does not exist", f"{lowest} to {highest}")
    return chosen


def compressor(method: str) -> str:
    """Return name and version of the library that `compress` uses; other versions may give other bytes."""
    if method == "xz":
        # Python's lzma does not report the version of its library.
        library = ctypes.CDLL("liblzma.so.5")
        library.lzma_version_string.restype = ctypes.c_char_p
        return f"liblzma {library.lzma_version_string().decode()}"
    package = {"gzip": "deflate", "zopfli": "zopfli", "zstd": "zstandard"}.get(method)
    return f"{package} {metadata.version(package)}" if package else method


def kernel_formats(config: str) -> list[str]:
    """Return the initramfs formats that a kernel with this .config can unpack, sorted."""
    lines = set(config.splitlines())
    return sorted(name for name, option in KERNEL_OPTIONS.items() if f"CONFIG_{option}=y" in lines)


def _truncated(name: str, offset: int, end: int, total: int) -> UserError:
    return UserError(
        f"{name} stream at offset {offset} is truncated: the data ends at {end}, before the stream does",
        "the file is incomplete, perhaps by a broken download or a full disk; make or fetch it again",
        f"  {total} bytes could be unpacked",
    )


def _corrupt(name: str, offset: int, why: str) -> UserError:
    return UserError(
        f"{name} stream at offset {offset} is corrupt: {why}", "the file is damaged; make it again"
    )


def _too_big(name: str, offset: int, limit: int) -> UserError:
    return UserError(
        f"{name} stream at offset {offset} unpacks to more than the allowed {limit} bytes",
        "the file is damaged, or a decompression bomb",
    )
