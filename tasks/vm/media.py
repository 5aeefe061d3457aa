# SPDX-License-Identifier: MIT
"""The media that a machine boots this profile's image from.

cd: the ISO in a CD drive.  stick: the ISO's bytes on a USB stick.  fat: a USB stick with the ISO's
files on a FAT file system, as Rufus and Ventoy make one.  disk: what `./doit disk` makes, on AHCI.
"""

from __future__ import annotations

from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.image import disk
from tasks.toolchain import tools
from tasks.util.errors import UserError
from tasks.vm.machine import Disk

SECTOR = 512
FAT_START = 2048  # sector of the partition on a FAT stick
SLACK = 16 << 20  # bytes: clusters that are not full, and both FATs


def drive(paths: Paths, profile: Profile, medium: str, folder: Path) -> Disk:
    """Return the drive with `medium`; what the guest writes is lost.

    folder: where a FAT stick is made, if it is not there yet.
    Raises `UserError` if the disk image was not built, or if the FAT stick cannot be made.
    """
    if medium == "disk":
        if not disk.raw(paths).is_file():
            raise UserError(f"{disk.raw(paths)} does not exist", "build it first: ./doit disk")
        return Disk(disk.raw(paths), "ahci", snapshot=True)
    if medium == "cd":
        return Disk(paths.iso, "cdrom")
    stick = paths.iso
    if medium == "fat":
        stick = folder / "fat.img"
        if not stick.exists():
            _copy_to_fat(paths, profile, stick)
    return Disk(stick, "usb", snapshot=True)


def _copy_to_fat(paths: Paths, profile: Profile, stick: Path) -> None:
    """Write the image of a stick with one FAT partition, without a label, that holds the ISO's files."""
    programs = tools.of_profile(paths, profile)
    work, log = stick.parent, paths.logs / "fat.log"
    programs.run(["xorriso", "-osirrox", "on", "-indev", paths.iso, "-extract", "/", work / "files"], log=log)
    size = paths.iso.stat().st_size + SLACK
    with stick.open("wb") as stream:
        stream.truncate(FAT_START * SECTOR + size)
    table = f"label: dos\nstart={FAT_START}, type=c, bootable\n".encode()
    programs.run(["sfdisk", "--quiet", "--no-tell-kernel", stick], stdin=table, log=log)
    # mtools gives an image's path to a shell: plain names alone are safe there.
    partition = ["-i", f"{stick.name}@@{FAT_START * SECTOR}"]
    env = profile.epoch_env | {"MTOOLS_SKIP_CHECK": "1"}
    programs.run(["mformat", *partition, "-T", str(size // SECTOR), "::"], cwd=work, env=env, log=log)
    copied = sorted(f"files/{path.name}" for path in (work / "files").iterdir())
    programs.run(["mcopy", *partition, "-s", *copied, "::"], cwd=work, env=env, log=log)
