"""Compressed streams as the kernel knows them: find, undo one at a time, make.

The formats and magics are those of the kernel's lib/decompress.c.  A kernel
payload is one stream, in most formats followed by four bytes holding its
unpacked size; an initramfs is any number of streams and plain cpio archives,
one after the other, with zero bytes between (Documentation/driver-api/early-userspace/
buffer-format.rst).  So `decompress_one` undoes exactly one stream and says where it ended.
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
"""Most bytes one stream may unpack to.  The x86-64 kernel itself may take 1 GiB of
address space, and an initramfs must fit in RAM twice, so more is damage or a bomb."""

GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
BZIP2_MARKS = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")  # BCD digits of pi and of its root
LZO = b"\x89LZO\x00\r\n\x1a\n"
LZ4_LEGACY = b"\x02\x21\x4c\x18"  # 0x184C2102: what the kernel reads, `lz4 -l`
LZ4_FRAME = b"\x04\x22\x4d\x18"  # 0x184D2204: what lz4 writes by default
LZ4_BLOCK = 8 << 20  # unpacked size of every legacy block but the last
LZ4_BOUND = LZ4_BLOCK + LZ4_BLOCK // 255 + 16  # LZ4_compressBound() of one
GZIP_AS_LZ4_SIZE = 0x00088B1F  # a gzip header read as the size of an LZ4 block

FEED = 64 << 10
# zstandard cannot be told to stop at so many bytes; RLE blocks of 4 bytes unpack to
# 128 KiB each, so the input must go in by small pieces to keep a bomb below 128 MiB.
ZSTD_FEED = 4 << 10
ZSTD_WINDOW = 1 << 27  # ZSTD_WINDOWSIZE_MAX of the kernel's lib/decompress_unzstd.c
LZMA_MEMORY = 1 << 30

METHODS = ("gzip", "zopfli", "xz", "zstd", "plain")
LEVELS = {"gzip": (9, 1, 12), "zopfli": (15, 1, 1000), "xz": (6, 0, 9), "zstd": (19, 1, 22)}
"""Method -> (default, lowest, highest) level of `compress`.

gzip's are libdeflate's: 9 is smaller than `gzip -9` in a quarter of its time, 12 smaller
still in two thirds.  zopfli makes gzip streams too; its level is the number of iterations.
xz's default of 6 means a dictionary of 8 MiB, which the kernel must allocate at boot
(Documentation/staging/xz.rst).  zstd's 22 means a window of 128 MiB, ZSTD_WINDOW."""
KERNEL_OPTIONS = {
    "gzip": "RD_GZIP",
    "bzip2": "RD_BZIP2",
    "lzma": "RD_LZMA",
    "xz": "RD_XZ",
    "lzo": "RD_LZO",
    "lz4": "RD_LZ4",
    "zstd": "RD_ZSTD",
}
"""Format -> the option that makes a kernel unpack an initramfs in it (usr/Kconfig)."""


class _Decoder(Protocol):
    """What zlib, bz2, lzma and zstandard decoders have in common."""

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
    # "BZh" alone could be text: a level digit and a block (or end) mark must follow.
    if head[:3] == BZIP2 and head[3:4].isdigit() and head[4:10] in BZIP2_MARKS:
        return "bzip2"
    return "lzma" if _is_lzma(head) else "plain"


def _is_lzma(head: bytes) -> bool:
    # .lzma has no magic.  lib/decompress.c takes "5d 00"; the dictionary (2^n or 2^n + 2^(n-1))
    # and the unpacked size (unknown or below 256 GiB) are checked as xz does, against chance.
    if len(head) < 13 or head[0] != 0x5D:
        return False
    dictionary, size = struct.unpack_from("<IQ", head, 1)
    lowest = dictionary & -dictionary
    dictionary_fits = dictionary >= 4096 and dictionary in (lowest, lowest | lowest << 1)
    return dictionary_fits and (size == (1 << 64) - 1 or size < 1 << 38)


def decompress_one(data: memoryview, offset: int, limit: int = LIMIT) -> tuple[bytes, int]:
    """Undo the one stream at `offset`; return its content and the offset just after it.

    What follows (another archive, padding, a kernel's size trailer) is left to the caller.
    Raises `UserError` naming format and offset if there is no known stream, if it is
    truncated or corrupt, or if it would unpack to more than `limit` bytes.
    """
    data = memoryview(data).cast("B")
    name = _known(data, offset)
    if name == "lz4":
        return _lz4_one(data, offset, limit)
    try:
        return _stream_one(name, data, offset, limit)
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, ValueError) as error:
        # bz2 says OSError("Invalid data stream") and ValueError for damaged input.
        raise _corrupt(name, offset, str(error)) from None


def peek(data: memoryview, offset: int, size: int) -> bytes:
    """Return the first `size` bytes (fewer if it has no more) inside the stream at `offset`.

    Works on truncated streams too.  Raises `UserError` as `decompress_one` does.
    """
    data = memoryview(data).cast("B")
    name = _known(data, offset)
    if name == "lz4":
        end = _lz4_end(data, offset, most_blocks=1)
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


def _known(data: memoryview, offset: int) -> str:
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
    """Return (feed(piece, most), the decoder, bytes to feed at once) for a format."""
    if name == "gzip":
        gzip = zlib.decompressobj(wbits=31)  # 16 + 15: a gzip header and nothing else
        return gzip.decompress, gzip, FEED
    if name == "bzip2":
        bzip2 = bz2.BZ2Decompressor()
        return bzip2.decompress, bzip2, FEED
    if name in ("xz", "lzma"):
        kind = lzma.FORMAT_XZ if name == "xz" else lzma.FORMAT_ALONE
        xz = lzma.LZMADecompressor(kind, memlimit=LZMA_MEMORY)
        return xz.decompress, xz, FEED
    zstd = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
    return (lambda piece, most: zstd.decompress(piece)), zstd, ZSTD_FEED


def _stream_one(name: str, data: memoryview, offset: int, limit: int) -> tuple[bytes, int]:
    feed, decoder, step = _decoder(name)
    pieces: list[bytes] = []
    total = 0
    for start in range(offset, len(data), step):
        stop = min(start + step, len(data))
        # One byte more than allowed shows that there would be more.
        piece = feed(data[start:stop], limit - total + 1)
        total += len(piece)
        if total > limit:
            raise _too_big(name, offset, limit)
        pieces.append(piece)
        if decoder.eof:
            return b"".join(pieces), stop - len(decoder.unused_data)
    raise _truncated(name, offset, len(data), total)


def _lz4_end(data: memoryview, offset: int, most_blocks: int = 0) -> int:
    """Return where the legacy LZ4 stream at `offset` ends (or its first `most_blocks` blocks).

    The format has no end mark: blocks (32-bit size, data) follow until something that is
    no block, as in the kernel's lib/decompress_unlz4.c.
    """
    if data[offset : offset + 4] == LZ4_FRAME:
        raise UserError(
            f"lz4 stream at offset {offset} is in the LZ4 frame format, which the kernel cannot read",
            "compress it again with `lz4 -l` (legacy format)",
        )
    end, blocks = offset + 4, 0
    while len(data) - end >= 4 and not (most_blocks and blocks == most_blocks):
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


def _lz4_one(data: memoryview, offset: int, limit: int) -> tuple[bytes, int]:
    end = _lz4_end(data, offset)
    # Every block but the last unpacks to 8 MiB, and LZ4 grows data 255-fold at most.
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
    """Return `data` as one stream the kernel can unpack; the same input gives the same bytes.

    method: one of METHODS.  gzip has neither name nor time in its header; xz has CRC32
    as its check, because the kernel's decoder knows no other but none (Documentation/
    staging/xz.rst); level None means the default in LEVELS.  Raises `UserError` as
    `checked_level` does.
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
    """Return the level that `compress` takes, 0 for "plain".

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
    """Return name and version of what `compress` uses: another one may make other bytes."""
    if method == "xz":
        # Python's lzma does not say what it is linked to.
        library = ctypes.CDLL("liblzma.so.5")
        library.lzma_version_string.restype = ctypes.c_char_p
        return f"liblzma {library.lzma_version_string().decode()}"
    package = {"gzip": "deflate", "zopfli": "zopfli", "zstd": "zstandard"}.get(method)
    return f"{package} {metadata.version(package)}" if package else method


def unpackable(config: str) -> list[str]:
    """Return the formats in which a kernel with this .config unpacks an initramfs, sorted."""
    lines = set(config.splitlines())
    return sorted(name for name, option in KERNEL_OPTIONS.items() if f"CONFIG_{option}=y" in lines)


def _truncated(name: str, offset: int, end: int, total: int) -> UserError:
    return UserError(
        f"{name} stream at offset {offset} is truncated: the data ends at {end}, the stream does not",
        "the file is incomplete (cut download, full disk?); make or fetch it again",
        f"  {total} bytes could be unpacked",
    )


def _corrupt(name: str, offset: int, why: str) -> UserError:
    return UserError(
        f"{name} stream at offset {offset} is corrupt: {why}", "the file is damaged; make it again"
    )


def _too_big(name: str, offset: int, limit: int) -> UserError:
    return UserError(
        f"{name} stream at offset {offset} unpacks to more than the allowed {limit} bytes",
        "the file is damaged, or made to exhaust memory",
    )
