# SPDX-License-Identifier: MIT
"""QEMU command lines."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config import architecture
from tasks.util.errors import UserError
from tasks.vm import machine
from tasks.vm.machine import Disk, Machine, Share


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image file with a comma in its name, which QEMU's options must survive."""
    path = tmp_path / "a,b.img"
    path.touch()
    return path


def test_disks_keep_their_order_and_bus(image: Path, tmp_path: Path) -> None:
    disks = (Disk(image, "cdrom"), Disk(image), Disk(image, "ahci", read_only=True))
    words = machine.argv(Machine("bios", disks=disks), tmp_path)
    drives = [words[n + 1] for n, word in enumerate(words) if word == "-drive"]
    assert [("readonly=on" in drive) for drive in drives] == [True, False, True]
    assert all("a,,b.img" in drive for drive in drives)
    devices = [word.split(",")[0] for word in words if ",drive=disk" in word]
    assert devices == ["ide-cd", "virtio-blk-pci", "ide-hd"]
    assert [word.split("bootindex=")[1] for word in words if "bootindex" in word] == ["0", "1", "2"]


def test_a_stick_is_on_usb_and_stays_as_it_is(image: Path, tmp_path: Path) -> None:
    words = machine.argv(Machine("bios", disks=(Disk(image, "usb", snapshot=True),)), tmp_path)
    assert "qemu-xhci,id=usb" in words
    assert "usb-storage,drive=disk0,bus=usb.0,bootindex=0" in words
    (drive,) = [words[n + 1] for n, word in enumerate(words) if word == "-drive"]
    assert drive.endswith("id=disk0,snapshot=on")
    assert "qemu-xhci,id=usb" not in machine.argv(Machine("bios", disks=(Disk(image),)), tmp_path)


def test_direct_boot(image: Path, tmp_path: Path) -> None:
    assert "-initrd" not in machine.argv(Machine("direct", kernel=image), tmp_path)
    words = machine.argv(Machine("direct", kernel=image, initrd=image, append="noembed x=1"), tmp_path)
    assert words[words.index("-append") + 1] == "noembed x=1 no_timer_check norandmaps"
    fast = Machine("direct", kernel=image, initrd=image, append="noembed x=1", accel="kvm")
    assert "noembed x=1" in machine.argv(fast, tmp_path), "what is not emulated is fast enough"
    assert words[words.index("-kernel") + 1] == str(image)


def test_only_an_emulated_guest_of_a_boot_loader_has_random_addresses(image: Path) -> None:
    made = (Machine("uefi"), Machine("direct", kernel=image), Machine("uefi", accel="kvm"))
    assert [one.has_random_addresses for one in made] == [True, False, False]


def test_a_missing_image_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist") as caught:
        machine.argv(Machine("bios", disks=(Disk(tmp_path / "no.iso", "cdrom"),)), tmp_path)
    assert "./doit iso" in caught.value.hint


def test_missing_uefi_firmware_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = architecture.load("x86_64")
    emulator = replace(found.emulator, uefi_code=str(tmp_path / "absent.fd"))
    monkeypatch.setattr(architecture, "load", lambda _: replace(found, emulator=emulator))
    with pytest.raises(UserError) as caught:
        machine.argv(Machine("uefi"), tmp_path)
    assert "ovmf" in caught.value.hint


@pytest.mark.parametrize(
    ("arch", "program", "firmware"),
    [("x86_64", "qemu-system-x86_64", "OVMF_CODE"), ("x86", "qemu-system-i386", "OVMF32_CODE")],
)
def test_the_emulator_and_the_firmware_are_those_of_the_architecture(
    arch: str, program: str, firmware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 32-bit firmware that keeps its variables by system management mode is told so."""
    monkeypatch.setattr(machine, "require_uefi", lambda _: None)
    monkeypatch.setattr("shutil.copyfile", lambda *_: None)
    words = machine.argv(Machine("uefi", arch), tmp_path)
    assert words[0] == program
    assert any(f"/{firmware}" in word for word in words)
    assert ("driver=cfi.pflash01,property=secure,value=on" in words) == (arch == "x86")


def test_ports_are_forwarded_from_loopback_only(tmp_path: Path) -> None:
    words = machine.argv(Machine("bios", forward={5000: 5000, 2222: 22}), tmp_path)
    netdev = words[words.index("-netdev") + 1]
    assert netdev == "user,id=net0,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:5000-:5000"


def test_ports_to_forward() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert machine.parse_forwards([f"{port}:5000"]) == {port: 5000}
    assert machine.parse_forwards([]) == {}


@pytest.mark.parametrize("word", ["5000", "0:80", "80:65536", "a:b", "127.0.0.1:80:80", "80:80 "])
def test_a_forward_that_cannot_be_meant_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="expected HOSTPORT:GUESTPORT"):
        machine.parse_forwards([word])


def test_a_port_is_forwarded_once_and_only_if_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match="Address already in use"):
            machine.parse_forwards([f"{port}:80"])
    with pytest.raises(UserError, match=f"host port {port} is named twice"):
        machine.parse_forwards([f"{port}:80", f"{port}:81"])


def test_no_network_unless_asked(tmp_path: Path) -> None:
    words = machine.argv(Machine("bios"), tmp_path)
    assert "-nodefaults" in words
    assert "-netdev" not in words


def test_a_shared_folder_by_9p_keeps_its_name_and_may_be_read_only(tmp_path: Path) -> None:
    shares = (Share(Path("/a,b"), "/mnt/a"), Share(Path("/c:d"), "/mnt/c", read_only=True))
    words = machine.argv(Machine("bios", shares=shares), tmp_path)
    first, second = (words[n + 1] for n, word in enumerate(words) if word == "-fsdev")
    assert first == "local,id=share0,path=/a,,b,security_model=none,multidevs=remap"
    assert second == "local,id=share1,path=/c:d,security_model=none,multidevs=remap,readonly=on"
    assert "virtio-9p-pci,fsdev=share1,mount_tag=share1" in words
    assert not any("memory-backend" in word for word in words)


def test_virtiofsd_shares_the_memory_of_the_guest(tmp_path: Path) -> None:
    shares = (Share(Path("/a"), "/mnt/a"), Share(Path("/b"), "/mnt/b", transport="virtiofs"))
    words = machine.argv(Machine("bios", memory=300, shares=shares), tmp_path)
    assert words[words.index("-machine") + 1].endswith(",memory-backend=memory")
    assert words[words.index("-object") + 1] == "memory-backend-memfd,id=memory,size=300M,share=on"
    assert f"socket,id=share1,path={machine.share_socket(tmp_path, 1)}" in words
    assert "vhost-user-fs-pci,chardev=share1,tag=share1,queue-size=1024" in words
