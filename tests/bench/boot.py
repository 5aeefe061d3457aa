# SPDX-License-Identifier: MIT
"""Boot one machine under TCG until its shell's prompt, and print the seconds of each stage.

`python -m tests.bench.boot bios ISO`, `... direct KERNEL CORE BOOTCODES [DISC]`, or
`... off KERNEL BOOTCODES`: an initramfs whose only program powers the machine off at once.  The bench starts
and measures it.
"""

from __future__ import annotations

import stat
import sys
import tempfile
import time
from pathlib import Path

from tasks.formats import cpio
from tasks.util.errors import report_errors
from tasks.vm.guest import PROMPT, Guest
from tasks.vm.machine import Disk, Machine

LIMIT = 3600.0  # seconds; an emulated machine on a busy one takes its time
STAGES = (
    # The kernel says "Booting paravirtualized kernel" before.
    ("firmware and kernel", r"Booting (?:\x1b\[[0-9;]*[A-Za-z])*(?:Core|\d)"),
    ("devices and home", r"Loading extensions\.\.\."),
    ("extensions", r" Done\."),
    ("logins", PROMPT),
)
"""What each stage of Tiny Core's root, and of ours, ends with on the console."""
BUSYBOX = Path("/bin/busybox")  # a static one: Debian's busybox-static


def boot(machine: Machine) -> None:
    """Return when the prompt has come.  Raises `GuestError` if it does not."""
    with (
        tempfile.TemporaryDirectory(prefix="tcbuild-boot-") as folder,
        Guest(machine, Path(folder, "console.log"), limit=LIMIT) as guest,
    ):
        before = time.monotonic()
        for name, end in STAGES:
            guest.expect(end, LIMIT)
            now = time.monotonic()
            print(f"{name}: {now - before:.2f} s")
            before = now


def power_off(kernel: Path, bootcodes: str) -> None:
    """Boot a kernel with an initramfs that powers off at once, and return when QEMU has ended."""
    members = [
        cpio.Member("bin", stat.S_IFDIR | 0o755),
        cpio.Member("bin/busybox", stat.S_IFREG | 0o755, data=BUSYBOX.read_bytes()),
        cpio.Member("dev", stat.S_IFDIR | 0o755),
        cpio.Member("dev/console", stat.S_IFCHR | 0o600, rdevmajor=5, rdevminor=1),
        cpio.Member("init", stat.S_IFREG | 0o755, data=b"#!/bin/busybox sh\n/bin/busybox poweroff -f\n"),
    ]
    with tempfile.TemporaryDirectory(prefix="tcbuild-boot-") as folder:
        initrd = Path(folder, "off.cpio")
        initrd.write_bytes(cpio.write(members, mtime=0))
        machine = Machine("direct", kernel=kernel, initrd=initrd, append=bootcodes)
        before = time.monotonic()
        with Guest(machine, Path(folder, "console.log"), limit=LIMIT) as guest:
            guest.wait_for_end(LIMIT)
            print(f"all: {time.monotonic() - before:.2f} s")


def main(how: str, *paths: str) -> None:
    """Boot by the words of the command line."""
    if how == "bios":
        boot(Machine("bios", disks=(Disk(Path(paths[0]), "cdrom"),)))
    elif how == "off":
        power_off(Path(paths[0]), paths[1])
    else:
        kernel, core, bootcodes, *discs = paths
        disks = tuple(Disk(Path(disc), "cdrom") for disc in discs)
        boot(Machine("direct", kernel=Path(kernel), initrd=Path(core), append=bootcodes, disks=disks))


if __name__ == "__main__":
    with report_errors():
        main(*sys.argv[1:])
