# SPDX-License-Identifier: MIT
"""The ISO boots by every firmware, its menu works, and what goes wrong in a guest is said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.vm import boots, qemu
from tasks.vm.guest import Guest, GuestError
from tasks.vm.machine import Disk, Firmware, Machine
from tests.support.built import built
from tests.support.settings import both


@pytest.mark.parametrize(
    ("firmware", "medium"),
    [
        *(("bios", "cd"), ("bios", "stick"), ("uefi", "cd"), ("uefi", "stick"), ("uefi", "fat")),
        ("direct", "direct"),
    ],
)
def test_boots_and_answers(firmware: Firmware, medium: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On sticks `cde` is found without a CD drive; a FAT copy has neither our label nor a boot sector."""
    iso = built().paths.iso
    before = iso.stat().st_mtime_ns
    boots.test(*both(built()), (firmware,), (medium,))
    name = "direct" if medium == "direct" else f"{firmware}-{medium}"
    assert f"{name}: " in capsys.readouterr().out
    assert iso.stat().st_mtime_ns == before


def test_32_bit_firmware_of_a_64_bit_pc_starts_the_iso(tmp_path: Path) -> None:
    """By BOOTIA32.EFI, as on the first tablets with Intel's Atom."""
    disks = (Disk(built().paths.iso, "cdrom"),)
    with Guest(Machine("uefi", firmware_of="x86", disks=disks), tmp_path / "log", limit=240) as guest:
        guest.login()
        assert guest.run("uname -m") == "x86_64\n"
        assert guest.run("cat /sys/firmware/efi/fw_platform_size") == "32\n"
        guest.run("[ -e /usr/local/tce.installed/attr ]")
        guest.power_off()


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_the_menu_works_over_the_serial_line(firmware: Firmware, tmp_path: Path) -> None:
    """Choose the second entry (`base`) by the cursor keys: no extension may be loaded."""
    settings = built()
    with Guest(
        qemu.machine(settings.paths, settings.profile, firmware, "tcg"), tmp_path / "log", limit=240
    ) as guest:
        guest.expect("without extensions", 60)
        guest.send("\x1b[B")
        guest.login()
        assert " base" in guest.run("cat /proc/cmdline")
        assert "attr" not in guest.run("ls /usr/local/tce.installed")
        guest.power_off()


def test_a_kernel_panic_ends_the_wait_at_once(tmp_path: Path) -> None:
    """An initramfs without init panics; the error shows the console's tail and keeps the log."""
    settings = built()
    empty = tmp_path / "empty.gz"
    cpio = subprocess.run(["cpio", "-o", "-H", "newc"], input=b"", capture_output=True, check=True).stdout
    empty.write_bytes(cpio)
    machine = Machine(
        "direct", kernel=settings.paths.kernel / "vmlinuz64", initrd=empty, append="console=ttyS0"
    )
    log = tmp_path / "log"
    panics = pytest.raises(GuestError, match="panicked: Kernel panic - not syncing")
    with panics as caught, Guest(machine, log, limit=120) as guest:
        guest.expect("never printed", 120)
    assert "VFS" in caught.value.detail
    assert str(log) in caught.value.detail
    assert "Kernel panic" in log.read_text(errors="replace")


def test_a_silent_guest_meets_its_limit(tmp_path: Path) -> None:
    blank = tmp_path / "blank.img"
    blank.write_bytes(bytes(1 << 20))
    machine = Machine("bios", disks=(Disk(blank),))
    with pytest.raises(GuestError, match="within 5 s"), Guest(machine, tmp_path / "log", limit=5) as guest:
        guest.expect("never printed", 5)


def test_a_wrong_answer_is_told_with_the_question(tmp_path: Path) -> None:
    settings = built()
    with Guest(
        qemu.machine(settings.paths, settings.profile, "direct", "tcg"), tmp_path / "log", limit=240
    ) as guest:
        guest.login()
        assert guest.run("sh -c 'echo out; exit 3'", check=False) == "out\n3"
        with pytest.raises(GuestError, match="exited with status 3: out"):
            guest.run("sh -c 'echo out; exit 3'")
        guest.power_off()
