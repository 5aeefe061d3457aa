# SPDX-License-Identifier: MIT
"""The superblock of a squashfs image: which compressor a kernel needs to read it."""

from __future__ import annotations

import struct
from pathlib import Path

from tasks.util.errors import UserError

SUPERBLOCK = struct.Struct("<4s16xH")  # magic and compressor (kernel, fs/squashfs/squashfs_fs.h)
MAGIC = b"hsqs"  # little endian: the kernel mounts no other
COMPRESSORS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
KERNEL_OPTIONS = {
    "gzip": "SQUASHFS_ZLIB",
    "lzo": "SQUASHFS_LZO",
    "xz": "SQUASHFS_XZ",
    "lz4": "SQUASHFS_LZ4",
    "zstd": "SQUASHFS_ZSTD",
}
"""The kernel's option for each compressor.  No kernel can read lzma, the format of old patches."""


def compressor(squashfs: Path) -> str:
    """Return the compressor that a squashfs image names in its superblock.

    Raises `UserError` if the file is no squashfs or the compressor is unknown.
    """
    with squashfs.open("rb") as stream:
        head = stream.read(SUPERBLOCK.size)
    magic, number = SUPERBLOCK.unpack(head) if len(head) == SUPERBLOCK.size else (b"", 0)
    if magic != MAGIC:
        raise UserError(f"{squashfs} is no squashfs file", "fetch or build it again")
    if number not in COMPRESSORS:
        raise UserError(f"{squashfs}: its superblock names the unknown compressor {number}")
    return COMPRESSORS[number]


def kernel_formats(config: str) -> list[str]:
    """Return the compressors that the squashfs of a kernel with this .config can read, sorted."""
    lines = set(config.splitlines())
    if not lines & {"CONFIG_SQUASHFS=y", "CONFIG_SQUASHFS=m"}:
        return []
    return sorted(name for name, option in KERNEL_OPTIONS.items() if f"CONFIG_{option}=y" in lines)
