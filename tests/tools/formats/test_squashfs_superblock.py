# SPDX-License-Identifier: MIT
"""The compressor of a squashfs image, as the real mksquashfs names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.formats import squashfs_superblock
from tasks.util.errors import UserError
from tasks.util.process import run


@pytest.mark.parametrize("method", ["gzip", "lzo", "xz", "lz4", "zstd", "lzma"])
def test_the_compressor_is_read_from_the_superblock(tmp_path: Path, method: str) -> None:
    """As the real mksquashfs writes it; also of an image without a compressed block."""
    (tmp_path / "files").mkdir()
    image = tmp_path / "made.tcz"
    run(["mksquashfs", tmp_path / "files", image, "-comp", method, "-noappend", "-no-progress"])
    assert squashfs_superblock.compressor(image) == method


def test_what_has_no_superblock(tmp_path: Path) -> None:
    image = tmp_path / "x.tcz"
    for content in (b"", b"hsqs", b"sqsh" + bytes(92), b"text" * 40):
        image.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.tcz is no squashfs file"):
            squashfs_superblock.compressor(image)
    image.write_bytes(b"hsqs" + bytes(16) + b"\x09" + bytes(75))
    with pytest.raises(UserError, match="unknown compressor 9"):
        squashfs_superblock.compressor(image)


def test_what_a_kernel_can_read() -> None:
    config = (
        "CONFIG_SQUASHFS=m\nCONFIG_SQUASHFS_ZLIB=y\n# CONFIG_SQUASHFS_LZO is not set\nCONFIG_SQUASHFS_XZ=y\n"
    )
    assert squashfs_superblock.kernel_formats(config) == ["gzip", "xz"]
    assert squashfs_superblock.kernel_formats(config.replace("=m", "=n")) == []
