# SPDX-License-Identifier: MIT
"""The .config inside a kernel."""

from __future__ import annotations

import gzip

import pytest

from tasks.formats import ikconfig
from tasks.util.errors import UserError

TEXT = "CONFIG_IKCONFIG=y\n# CONFIG_EXT4_FS is not set\n"
PACKED = gzip.compress(TEXT.encode(), mtime=0)


def test_it_is_found_between_its_marks() -> None:
    assert ikconfig.find(b"IKCFG_ST%s\0code" + b"IKCFG_ST" + PACKED + b"IKCFG_ED" + b"more") == TEXT


@pytest.mark.parametrize("content", [b"", b"no mark", b"IKCFG_ST", PACKED])
def test_a_kernel_without_one(content: bytes) -> None:
    assert ikconfig.find(content) == ""


@pytest.mark.parametrize(
    "packed, words",
    [(PACKED[:-12], "cut short"), (PACKED[:12] + b"\xff" * 8 + PACKED[20:], "damaged")],
)
def test_damage_is_told(packed: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ikconfig.find(b"IKCFG_ST" + packed)


def test_no_more_is_unpacked_than_a_config_can_have() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    with pytest.raises(UserError, match="cut short"):
        ikconfig.find(b"IKCFG_ST" + bomb)
