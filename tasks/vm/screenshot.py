# SPDX-License-Identifier: MIT
"""A picture of what the built image shows on its screen: `./doit qemu:screenshot`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder
from tasks.util.log import logger
from tasks.vm import qemu
from tasks.vm.guest import PROMPT, Guest, Panicked
from tasks.vm.machine import Firmware
from tasks.vm.run import check_seconds

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Moment:
    """When the picture is made.

    after: seconds from the start of QEMU, 0 to wait for a text instead.  when: the text on the serial
    console, the prompt of a shell if "".  within: seconds until the text must be there.
    """

    after: int = 0
    when: str = ""
    within: float = qemu.BOOT_SECONDS

    def __post_init__(self) -> None:
        if self.after and self.when:
            raise UserError("--after and --when exclude each other")
        for seconds in (self.after or 1, self.within):
            check_seconds(seconds)


def file_of(names: Sequence[str], caller: Path) -> Path:
    """Return the file that a command line names.  Raises `UserError` if it is not one PNG."""
    if len(names) != 1 or not names[0].endswith(".png"):
        raise UserError("expected the name of one PNG file", "./doit qemu:screenshot screen.png")
    file = caller / names[0]
    if file.is_dir() or not file.parent.is_dir():
        what = "is a folder" if file.is_dir() else "stands in no folder"
        raise UserError(f"{names[0]} {what}")
    return file


def take(
    paths: Paths, profile: Profile, file: Path, moment: Moment, firmware: Firmware, medium: str, memory: int
) -> None:
    """Boot the image, and write the picture.  Raises `GuestError` if the moment does not come."""
    accel = qemu.accelerator(paths, profile)
    with scratch_folder(paths.output, "media") as folder:
        image = (paths, profile, firmware, medium, folder, accel)
        machine = qemu.machine_of_medium(*image, memory=memory, network=True)
        limit = moment.after + moment.within
        with Guest(machine, paths.logs / "qemu-screenshot.log", limit=limit) as guest:
            shoot(guest, file, moment)
    logger.info(f"{file.name}: {file.stat().st_size:,} bytes")


def shoot(guest: Guest, file: Path, moment: Moment) -> None:
    """Wait for the moment, and write the picture; a panic is worth one, too, after a time."""
    if moment.after:
        until = time.monotonic() + moment.after
        while (left := until - time.monotonic()) > 0:
            with suppress(Panicked):
                guest.check()
            time.sleep(min(left, LOOK_SECONDS))
    else:
        guest.expect(re.escape(moment.when) if moment.when else PROMPT, moment.within)
    guest.screenshot(file)
