# SPDX-License-Identifier: MIT
"""Squashfs images: bombs and damage, with the real tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.formats import squashfs, unpack_limits
from tasks.util.errors import UserError
from tasks.util.process import run
from tests.support.squashed import squashed


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small archives be bombs already."""
    monkeypatch.setattr(unpack_limits, "ALWAYS_ALLOWED", 1 << 20)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("sparse", [False, True])
def test_squashfs_bomb_is_stopped_and_names_the_member(tmp_path: Path, sparse: bool) -> None:
    """A sparse file takes no block at all in the image."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_bytes(b"small")
    with (tmp_path / "files/zeros").open("wb") as stream:
        stream.truncate(64 << 20) if sparse else stream.write(bytes(64 << 20))
    image = squashed(tmp_path / "files", tmp_path / "x.tcz")
    assert image.stat().st_size * unpack_limits.MAX_RATIO < 64 << 20
    with pytest.raises(UserError, match=r"x\.tcz: with 'zeros' it unpacks to more than the") as caught:
        squashfs.squashfs_members(image)
    assert "do not trust this" in caught.value.hint


@pytest.mark.parametrize("method", ["gzip", "lzo", "xz", "lz4", "zstd", "lzma"])
def test_the_compressor_is_read_from_the_superblock(tmp_path: Path, method: str) -> None:
    """As the real mksquashfs writes it; also of an image without a compressed block."""
    (tmp_path / "files").mkdir()
    image = tmp_path / "made.tcz"
    run(["mksquashfs", tmp_path / "files", image, "-comp", method, "-noappend", "-no-progress"])
    assert squashfs.compressor(image) == method


def test_what_has_no_superblock(tmp_path: Path) -> None:
    image = tmp_path / "x.tcz"
    for content in (b"", b"hsqs", b"sqsh" + bytes(92), b"text" * 40):
        image.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.tcz is no squashfs file"):
            squashfs.compressor(image)
    image.write_bytes(b"hsqs" + bytes(16) + b"\x09" + bytes(75))
    with pytest.raises(UserError, match="unknown compressor 9"):
        squashfs.compressor(image)


def test_what_a_kernel_can_read() -> None:
    config = (
        "CONFIG_SQUASHFS=m\nCONFIG_SQUASHFS_ZLIB=y\n# CONFIG_SQUASHFS_LZO is not set\nCONFIG_SQUASHFS_XZ=y\n"
    )
    assert squashfs.kernel_formats(config) == ["gzip", "xz"]
    assert squashfs.kernel_formats(config.replace("=m", "=n")) == []
