# SPDX-License-Identifier: MIT
"""GRUB for UEFI (an EFI program in a FAT image) and for BIOS (the first sectors of a disk).

`grub-install` needs a mounted disk and root.  `grub-mkimage` writes the same images as files.
GRUB's manual, section "BIOS installation", says where they go on a disk.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.config.architecture import Architecture
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.toolchain import tools
from tasks.toolchain.tools import Tools
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder, write_atomic

BOOT = Path(__file__).with_name("boot")
SECTOR = 512
# Characters that have no meaning to GRUB's shell anywhere in a word.
PLAIN_WORD = re.compile(r"[\w=.,:/@%+-]+", re.ASCII)
FAT_SERIAL = "54434f52"  # fixed: the same files must give the same image
MBR_CODE = 440  # bytes: the boot code, before the disk's signature and partition table
KERNEL_SECTOR = 0x5C  # offset in boot.img of core.img's sector (GRUB_BOOT_MACHINE_KERNEL_SECTOR)


@dataclass(frozen=True)
class Isolinux:
    """Paths of files from the packages isolinux and syslinux-common."""

    files: tuple[str, ...]
    mbr: str


@dataclass(frozen=True)
class Grub:
    """The image format, the modules and the boot sector of GRUB for one platform.

    The architecture names the format for EFI (tasks/config/architectures/).
    """

    modules: tuple[str, ...]
    format: str = ""
    mbr: str = ""


@dataclass(frozen=True)
class Loaders:
    """The content of tasks/image/boot/boot.toml."""

    isolinux: Isolinux
    efi: Grub
    pc: Grub


def loaders() -> Loaders:
    """Return the content of tasks/image/boot/boot.toml.  Raises `UserError` if it is malformed."""
    return toml_schema.load(BOOT / "boot.toml", Loaders)


def efi_loaders(architecture: Architecture) -> dict[str, Grub]:
    """Return GRUB for all EFI firmware of an architecture's machines: the file in EFI/BOOT -> GRUB."""
    shipped = loaders().efi
    return {efi.file: replace(shipped, format=efi.format) for efi in architecture.efi}


def fill(name: str, values: dict[str, str]) -> str:
    """Return the text of tasks/image/boot/NAME with each @KEY@ replaced by its value."""
    text = (BOOT / name).read_text()
    # In one pass: a value may hold something that looks like a key.
    return re.sub("@([A-Z_]+)@", lambda found: values.get(found[1], found[0]), text)


def quoted(word: str) -> str:
    """Return `word`, which has no single quote, as one word of GRUB's shell.

    The shell changes nothing between single quotes (GRUB manual, "Quoting").
    """
    return word if PLAIN_WORD.fullmatch(word) else f"'{word}'"


def in_double_quotes(text: str) -> str:
    """Return `text` as it must stand between double quotes in GRUB's shell."""
    return re.sub(r'([\\"$])', r"\\\1", text)


def mkimage(programs: Tools, grub: Grub, embedded: str, out: Path, log: Path) -> None:
    """Write a GRUB image whose built-in configuration is the text `embedded`, without its comments."""
    config = out.with_name("embedded.cfg")
    # The parser of built-in configurations takes a comment for a command.
    lines = [line for line in embedded.splitlines(keepends=True) if not line.startswith("#")]
    write_atomic(config, "".join(lines))
    menu: list[str | Path] = ["-p", "/boot/grub", "-c", config]
    programs.run(["grub-mkimage", "-O", grub.format, "-o", out, *menu, *grub.modules], log=log)


def efi_image(
    paths: Paths, profile: Profile, embedded: str, image: Path, log: Path, tree: Path | None = None
) -> None:
    """Write `image`, a FAT file system with EFI/BOOT/BOOTX64.EFI and the like for other firmware.

    tree: a folder that gets the same files.
    """
    # The ISO and the disk image may be built at the same time, so each has its own folder.
    with scratch_folder(paths.output, "efi") as work:
        programs = tools.of_profile(paths, profile)
        found = efi_loaders(profile.architecture)
        for name, loader in found.items():
            mkimage(programs, loader, embedded, work / name, log)
            os.utime(work / name, (profile.source_date_epoch,) * 2)
        # Each file ends in a cluster of its own; FAT, root folder and slack.
        sectors = 128 + sum(8 + math.ceil((work / name).stat().st_size / SECTOR) for name in found)
        geometry = ["-h", "1", "-s", "32", "-t", str(math.ceil(sectors / 32))]
        env = profile.epoch_env | {"MTOOLS_SKIP_CHECK": "1"}

        def mtools(tool: str, *words: str) -> None:
            # mtools gives an image's path to a shell: plain names alone are safe there.
            programs.run([tool, "-i", "efi.img", *words], cwd=work, env=env, log=log)

        mtools("mformat", "-C", *geometry, "-N", FAT_SERIAL, "-v", "EFI", "::")
        mtools("mmd", "::EFI", "::EFI/BOOT")
        mtools("mcopy", "-m", *found, "::EFI/BOOT/")
        if tree is not None:
            (tree / "EFI/BOOT").mkdir(parents=True)
            for name in found:
                shutil.copyfile(work / name, tree / "EFI/BOOT" / name)
        shutil.move(work / "efi.img", image)


def write_bios_loader(mbr: Path, disk: Path, core: Path, first_partition: int) -> None:
    """Write GRUB's boot.img into the MBR of `disk` and core.img into the sectors after it.

    The partition table stays.  mbr: boot.img; first_partition: the sector where the first partition starts.
    Raises `UserError` if core.img does not fit before it.
    """
    boot = bytearray(mbr.read_bytes()[:MBR_CODE])
    struct.pack_into("<Q", boot, KERNEL_SECTOR, 1)
    image = core.read_bytes()
    if math.ceil(len(image) / SECTOR) > first_partition - 1:
        raise UserError("GRUB's core image does not fit before the first partition")
    with disk.open("r+b") as stream:
        stream.write(boot)
        stream.seek(SECTOR)
        stream.write(image)
