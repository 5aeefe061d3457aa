# SPDX-License-Identifier: MIT
"""Squashfs images: bombs and damage, with the real tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.formats import squashfs, unpack_limits
from tasks.util.errors import UserError
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
