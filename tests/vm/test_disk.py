# SPDX-License-Identifier: MIT
"""The disk image boots by both firmwares and keeps what was written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.image import disk
from tasks.util.files import sha256_file
from tasks.vm.guest import Guest
from tasks.vm.machine import Disk, Firmware, Machine
from tests.support.built import built


@pytest.fixture(scope="module")
def image() -> Settings:
    """The disk image, which `./doit disk` has built."""
    settings = built()
    assert disk.raw(settings.paths).is_file(), "run these tests by ./doit test"
    return settings


@pytest.fixture
def drive(image: Settings, tmp_path: Path) -> Disk:
    """A qcow2 layer on top of the image, so that the guest's writes leave it as it is."""
    layer = tmp_path / "layer.qcow2"
    backing: list[str | Path] = ["-b", disk.qcow2(image.paths), "-F", "qcow2"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, layer], check=True)
    return Disk(layer, "ahci", "qcow2")


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_boots_and_keeps_what_was_written(firmware: Firmware, drive: Disk, tmp_path: Path) -> None:
    machine = Machine(firmware, disks=(drive,))
    with Guest(machine, tmp_path / "first.log", limit=240) as guest:
        guest.login()
        assert "/tce" in guest.run("readlink -f /etc/sysconfig/tcedir")
        guest.run("[ -e /usr/local/tce.installed/attr ]")
        guest.run(
            "echo kept > /etc/sysconfig/tcedir/note && setfattr -n user.a -v b /etc/sysconfig/tcedir/note"
        )
        guest.power_off()
    with Guest(machine, tmp_path / "second.log", limit=240) as guest:
        guest.login()
        assert guest.run("cat /etc/sysconfig/tcedir/note") == "kept\n"
        assert "b" in guest.run("getfattr --only-values -n user.a /etc/sysconfig/tcedir/note")
        guest.power_off()


def test_the_file_system_is_sound_and_owned_by_tc(image: Settings, tmp_path: Path) -> None:
    part = tmp_path / "ext3.img"
    offset = (disk.FIRST_PARTITION + disk.EFI_SECTORS) * 512
    with disk.raw(image.paths).open("rb") as source, part.open("wb") as target:
        source.seek(offset)
        while block := source.read(1 << 20):
            target.write(block)
    subprocess.run(["e2fsck", "-f", "-n", part], check=True, capture_output=True)
    said = subprocess.run(
        ["debugfs", "-R", "stat /tce/onboot.lst", part], capture_output=True, text=True, check=True
    ).stdout
    assert f"User:  {disk.TC_UID}   Group:    {disk.STAFF_GID}" in said


def test_building_again_gives_the_same_bytes(image: Settings) -> None:
    before = sha256_file(disk.raw(image.paths)), sha256_file(disk.qcow2(image.paths))
    disk.build(image.paths, image.profile)
    assert (sha256_file(disk.raw(image.paths)), sha256_file(disk.qcow2(image.paths))) == before
