# SPDX-License-Identifier: MIT
"""Boot one machine under TCG until its shell's prompt: `python -m tests.bench.boot bios ISO`,
or `... direct KERNEL CORE BOOTCODES`.  Started by the bench, which measures it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tasks.util.errors import report_errors
from tasks.vm.guest import PROMPT, Guest
from tasks.vm.machine import Disk, Machine

LIMIT = 900.0  # seconds; an emulated machine on a busy one takes its time


def boot(machine: Machine) -> None:
    """Return when the prompt has come.  Raises `GuestError` if it does not."""
    with (
        tempfile.TemporaryDirectory(prefix="tcbuild-boot-") as folder,
        Guest(machine, Path(folder, "console.log"), limit=LIMIT) as guest,
    ):
        guest.expect(PROMPT, LIMIT)


def main(how: str, *paths: str) -> None:
    """Boot by the words of the command line."""
    if how == "bios":
        boot(Machine("bios", disks=(Disk(Path(paths[0]), "cdrom"),)))
    else:
        kernel, core, bootcodes = paths
        boot(Machine("direct", kernel=Path(kernel), initrd=Path(core), append=bootcodes))


if __name__ == "__main__":
    with report_errors():
        main(*sys.argv[1:])
