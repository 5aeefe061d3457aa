# SPDX-License-Identifier: MIT
"""A guest that starts again: a boot sector in place of a kernel, in the real QEMU."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from tasks.vm.guest import RESETS, Guest, Panicked
from tasks.vm.machine import Disk, Machine

PANIC = b"""\
Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug and send a report.
Call Trace:
---[ end Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug ]---
"""
START = 0x7C00  # where the BIOS puts a boot sector
COUNT = "ba7000 b050 ee 42 ec fec0 88c3 4a b050 ee 42 88d8 ee"  # bl = byte 0x50 of the CMOS, plus one
WRITE = "ba f803 ac 84c0 7403 ee ebf8 f4 ebfd"  # the text at si, to the serial port 0x3f8; then halt


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk.img"


def write_disk(disk: Path, panics: int) -> None:
    """Make a disk that starts with a panic, so many times, and then with `up`.

    It counts its starts in the CMOS, which a reset leaves as it is.
    """
    code = bytes.fromhex(f"31c0 8ed8 {COUNT}")
    size = len(code) + 11 + len(bytes.fromhex(WRITE))
    panic, up = START + size, START + size + len(PANIC) + 1
    code += struct.pack("<BHBBBBBBH", 0xBE, panic, 0x80, 0xFB, panics + 1, 0x72, 3, 0xBE, up)
    code += bytes.fromhex(WRITE)
    assert len(code) == size
    disk.write_bytes((code + PANIC + b"\0up\n\0").ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))


def test_an_emulated_timer_that_comes_too_late_is_no_fault_of_the_image(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_disk(disk, RESETS)
    with Guest(Machine("bios", disks=(Disk(disk),)), tmp_path / "log", limit=120) as guest:
        guest.expect("^up$", 120)
        guest.check()
        assert "panic" not in guest.console
    assert (tmp_path / "log").read_text().count("Kernel panic - not syncing: IO-APIC") >= RESETS
    told = capsys.readouterr()
    assert (told.out + told.err).count("started again") == RESETS


def test_one_that_never_comes_is_a_panic(disk: Path, tmp_path: Path) -> None:
    write_disk(disk, RESETS + 1)
    with (
        Guest(Machine("bios", disks=(Disk(disk),)), tmp_path / "log", limit=120) as guest,
        pytest.raises(Panicked, match=r"IO-APIC \+ timer doesn't work"),
    ):
        guest.expect("^up$", 120)


def test_the_shell_of_a_console_has_no_aliases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny Core's has `rm -i`, which would ask instead of removing."""
    (tmp_path / "ashrc").write_text("alias rm='rm -i'\nPS1='tc@box:~$ '\n")
    shell = ["env", f"ENV={tmp_path}/ashrc", "/bin/busybox", "ash", "-i"]
    on_terminal = [sys.executable, "-c", f"import pty; pty.spawn({shell})"]
    monkeypatch.setattr("tasks.vm.guest.argv", lambda *_: on_terminal)
    folder = tmp_path / "folder"
    folder.mkdir()
    with Guest(Machine("direct"), tmp_path / "log", limit=30) as guest:
        guest.login(20)
        assert guest.run(f"rm -r {folder}") == ""
    assert not folder.exists()
