# SPDX-License-Identifier: MIT
"""GRUB's files: what is filled in, and the sectors BIOS starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.image import grub
from tasks.util.errors import UserError

FIRST_PARTITION = 8


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk full of 0xff; boot.img is a sector of 0x01."""
    boot = tmp_path / "boot.img"
    boot.write_bytes(b"\x01" * grub.SECTOR)
    shipped = grub.loaders()
    monkeypatch.setattr(grub, "loaders", lambda: replace(shipped, pc=replace(shipped.pc, mbr=str(boot))))
    path = tmp_path / "disk"
    path.write_bytes(b"\xff" * grub.SECTOR * 16)
    return path


def test_the_partition_table_and_the_partition_stay(disk: Path, tmp_path: Path) -> None:
    core = tmp_path / "core.img"
    core.write_bytes(b"\x02" * (grub.SECTOR * 2 + 1))
    grub.write_bios_loader(Path(grub.loaders().pc.mbr), disk, core, FIRST_PARTITION)
    data = disk.read_bytes()
    assert len(data) == grub.SECTOR * 16
    assert data[: grub.KERNEL_SECTOR] == b"\x01" * grub.KERNEL_SECTOR
    assert int.from_bytes(data[grub.KERNEL_SECTOR : grub.KERNEL_SECTOR + 8], "little") == 1
    assert data[grub.MBR_CODE : grub.SECTOR] == b"\xff" * (grub.SECTOR - grub.MBR_CODE)
    assert data[grub.SECTOR :].startswith(core.read_bytes())
    assert set(data[grub.SECTOR * 3 + 1 :]) == {0xFF}


def test_a_core_image_must_end_before_the_partition(disk: Path, tmp_path: Path) -> None:
    core = tmp_path / "core.img"
    core.write_bytes(b"\x02" * grub.SECTOR * (FIRST_PARTITION - 1))
    grub.write_bios_loader(Path(grub.loaders().pc.mbr), disk, core, FIRST_PARTITION)
    before = disk.read_bytes()
    core.write_bytes(core.read_bytes() + b"\x02")
    with pytest.raises(UserError, match="does not fit before the first partition"):
        grub.write_bios_loader(Path(grub.loaders().pc.mbr), disk, core, FIRST_PARTITION)
    assert disk.read_bytes() == before


def test_each_key_of_a_template_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "menu").write_text("a @ONE@ b @TWO@ @ONE@ me@host\n")
    monkeypatch.setattr(grub, "BOOT", tmp_path)
    assert grub.fill("menu", {"ONE": "1", "TWO": "2"}) == "a 1 b 2 1 me@host\n"
