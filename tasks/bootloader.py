"""What boot loaders answer to a wrong file, and where the right one lies.

GRUB's `linux` command reads the boot header first (grub-core/loader/i386/linux.c) and
compares boot_flag at 0x1fe with 0xaa55; an ELF file such as `vmlinux` has something else
there, hence `error: invalid magic number`.  All answers were seen with GRUB 2.06 (i386-pc).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from tasks.bootheader import (
    BOOT_FLAG,
    HEADER_BASE,
    HEADER_MAGIC,
    LOADED_HIGH,
    XLF_KERNEL_64,
    read_header,
)
from tasks.errors import UserError

GRUB_HEADER = 0x268  # bytes GRUB reads before it looks at any of them
GRUB_OLDEST = 0x0203
NEAR = ("bzImage", "arch/x86/boot/bzImage", "vmlinuz64", "kernel/vmlinuz64", "boot/vmlinuz64")


def grub_says(head: bytes, size: int) -> list[str]:
    """Return what GRUB 2.06's `linux` command answers to a file, and why; empty if it takes it.

    head: the file's first 4 KiB or more; size: bytes of the whole file.
    """
    if size < GRUB_HEADER:
        return [
            "GRUB's `linux` answers: error: premature end of file "
            f"(of {size} bytes; the header alone has {GRUB_HEADER})"
        ]
    if boot_flag(head) != BOOT_FLAG:
        return [
            "GRUB's `linux` answers: error: invalid magic number.  It wants the boot protocol's 55 aa at "
            f"0x1fe and finds {head[0x1FE:0x200].hex(' ')}"
        ]
    (version,) = struct.unpack_from("<H", head, 0x206)
    if head[HEADER_BASE : HEADER_BASE + 4] != HEADER_MAGIC or version < GRUB_OLDEST:
        return ["GRUB's `linux` answers: error: version too old for 32-bit boot (it wants protocol 2.03)"]
    if not head[0x211] & LOADED_HIGH:
        return ["GRUB's `linux` answers: error: zImage doesn't support 32-bit boot"]
    return []


def boot_flag(head: bytes) -> int:
    """Return the number at 0x1fe (0 if there is none)."""
    return int.from_bytes(head[0x1FE:0x200], "little")


def use(path: Path, otherwise: str, levels: int = 1) -> str:
    """Return a hint: the bootable kernel near `path` by name, or `otherwise` if there is none."""
    near = bootable_near(path, levels)
    return f"use {near}, which has a 64-bit kernel's boot header" if near else otherwise


def bootable_near(path: Path, levels: int) -> Path | None:
    """Return a file with a 64-bit kernel's boot header near `path`, None if there is none.

    Looked for in its folder and `levels` - 1 above, where a kernel build or tcbuild puts it.
    """
    absolute = Path(os.path.abspath(path))
    for folder in list(absolute.parents)[:levels]:
        for name in NEAR if folder.parent != folder else ():
            found = folder / name
            if found != absolute and _has_boot_header(found):
                return found if path.is_absolute() else Path(os.path.relpath(found))
    return None


def _has_boot_header(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            header = read_header(file.read(4096))
    except (OSError, UserError):
        return False
    return bool(header.xloadflags & XLF_KERNEL_64 and header.loadflags & LOADED_HIGH)
