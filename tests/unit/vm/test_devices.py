# SPDX-License-Identifier: MIT
"""Devices of a machine whose drivers are tested."""

from __future__ import annotations

from pathlib import Path

from tasks.vm import devices
from tasks.vm.machine import Disk, Machine, argv


def fitted(tmp_path: Path, word: str, medium: str = "cd") -> tuple[Machine, list[str]]:
    image = tmp_path / "image"
    image.touch()
    bus = Disk(image, "ahci" if medium == "disk" else "cdrom")
    made = devices.fitted(Machine("bios", disks=(bus,)), devices.parse(word, "here"), tmp_path, medium)
    return made, argv(made, tmp_path)


def test_a_machine_without_devices_has_neither_card_nor_disk(tmp_path: Path) -> None:
    made, words = fitted(tmp_path, "none")
    assert len(made.disks) == 1
    assert "-netdev" not in words


def test_cards_have_networks_of_their_own(tmp_path: Path) -> None:
    _, words = fitted(tmp_path, "e1000+vmxnet3")
    assert [word for word in words if "netdev=" in word] == ["e1000,netdev=net0", "vmxnet3,netdev=net1"]
    assert [word for word in words if word.startswith("user,")] == ["user,id=net0", "user,id=net1"]


def test_a_disk_is_empty_and_keeps_nothing(tmp_path: Path) -> None:
    made, words = fitted(tmp_path, "pvscsi+nvme")
    assert [disk.bus for disk in made.disks] == ["cdrom", "pvscsi", "nvme"]
    assert all(disk.snapshot for disk in made.disks[1:])
    assert (tmp_path / "empty.img").stat().st_size == devices.SIZE
    assert "pvscsi,id=scsi1" in words
    assert "scsi-hd,drive=disk1,bus=scsi1.0,bootindex=1" in words
    assert "nvme,drive=disk2,serial=disk2,bootindex=2" in words


def test_the_systems_own_disk_moves_to_the_bus(tmp_path: Path) -> None:
    made, words = fitted(tmp_path, "vmxnet3+virtio-scsi+usb-storage", "disk")
    assert [(disk.path.name, disk.bus) for disk in made.disks] == [
        ("image", "virtio-scsi"),
        ("empty.img", "usb"),
    ]
    assert "scsi-hd,drive=disk0,bus=scsi0.0,bootindex=0" in words


def test_each_check_asks_for_its_driver() -> None:
    found = devices.checks([*devices.parse("e1000", "here"), *devices.parse("nvme", "here")])
    for placed, driver, word in zip(found, ("e1000", "nvme"), ("udhcpc", "/proc/partitions"), strict=True):
        assert placed.check.name == f"the driver of {driver} works"
        assert f'= "{driver}" ]' in placed.check.command
        assert word in placed.check.command
        assert "@" not in placed.check.command.replace('"$@"', "")
