# SPDX-License-Identifier: MIT
"""Find a file's type by its first bytes, for files that people boot by mistake.

Each `FileType` has a description and a hint what to do instead.  Sources of the magics:
the kernel's Documentation (arch/arm64/booting.rst, driver-api/early-userspace/
buffer-format.rst, arch/riscv/boot-image-header.rst), file(1)'s magic database.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tasks.formats.bzimage import HEADER_BASE, HEADER_MAGIC

HEAD_BYTES = 64 << 10
"""Bytes from the start of a file that `classify` needs (the magic of ISO 9660 is at 0x8001)."""


@dataclass(frozen=True)
class FileType:
    """kind: a fixed short name; description: for messages; hint: what to do with the file."""

    kind: str
    description: str
    hint: str


USE_BZIMAGE = "boot arch/x86/boot/bzImage of the build folder, or vmlinuz64 as tcbuild installs it"
OTHER_MACHINE = "a PC cannot run it; build for x86-64: make ARCH=x86_64 bzImage"
IS_INITRD = "name it in the boot entry's `initrd` line (QEMU: -initrd); the `linux` line wants vmlinuz64"

Matcher = Callable[[bytes], bool]


def _at(offset: int, magic: bytes) -> Matcher:
    return lambda head: head[offset : offset + len(magic)] == magic


def _is_ext(head: bytes) -> bool:
    # The magic has only two bytes, so block size (1 KiB << n) and revision must be valid, too.
    return head[0x438:0x43A] == b"\x53\xef" and head[0x418] <= 6 and head[0x44C] <= 1


def _is_partitioned(head: bytes) -> bool:
    entries = [head[start : start + 16] for start in range(0x1BE, 0x1FE, 16)]
    good = all(len(entry) == 16 and entry[0] in (0, 0x80) for entry in entries)
    return head[0x1FE:0x200] == b"\x55\xaa" and good and any(entry[4] for entry in entries)


def _starts_with_word(*words: bytes) -> Matcher:
    return lambda head: head.lstrip()[:256].lower().startswith(words)


def is_text(head: bytes) -> bool:
    """Return whether bytes are UTF-8 text; the last character may be incomplete."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or error.reason != "unexpected end of data":
            return False
        text = head[: error.start].decode()
    return bool(text) and not re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text)


# The first matching type counts.
TYPES: tuple[tuple[Matcher, FileType], ...] = (
    (
        _at(HEADER_BASE, HEADER_MAGIC),
        FileType("bzImage", "a Linux kernel image for x86 (bzImage)", "unpack it first, then boot it"),
    ),
    (
        _at(0x38, b"ARM\x64"),
        FileType("arm64-image", "a Linux kernel for ARM64 (arch/arm64/boot/Image)", OTHER_MACHINE),
    ),
    (
        _at(0x24, b"\x18\x28\x6f\x01"),
        FileType("arm-zimage", "a Linux kernel for 32-bit ARM (arch/arm/boot/zImage)", OTHER_MACHINE),
    ),
    (
        _at(0x38, b"RSC\x05"),
        FileType("riscv-image", "a Linux kernel for RISC-V (arch/riscv/boot/Image)", OTHER_MACHINE),
    ),
    (
        _at(0, b"\x27\x05\x19\x56"),
        FileType("uimage", "a U-Boot image (uImage, made by mkimage)", OTHER_MACHINE),
    ),
    (
        _at(0, b"\xd0\x0d\xfe\xed"),
        FileType("devicetree", "a device tree or U-Boot FIT image", OTHER_MACHINE),
    ),
    (
        lambda head: head[:6] in (b"070701", b"070702"),
        FileType("cpio", "a cpio archive (newc): an unpacked initramfs such as core.gz holds", IS_INITRD),
    ),
    (
        lambda head: head[:6] == b"070707" or head[:2] in (b"\xc7\x71", b"\x71\xc7"),
        FileType(
            "cpio-old",
            "a cpio archive in an old format, which the kernel cannot unpack as initramfs",
            "make it again with `cpio -H newc`",
        ),
    ),
    (
        lambda head: head[:4] in (b"hsqs", b"sqsh"),
        FileType(
            "squashfs",
            "a squashfs file system, as a Tiny Core extension (.tcz) is",
            "load it with `tce-load -i NAME` in the running system, or put it in cde/optional of the CD",
        ),
    ),
    (
        _at(0x8001, b"CD001"),
        FileType(
            "iso",
            "an ISO 9660 image: a whole CD, not a kernel",
            "boot the CD itself (qemu-system-x86_64 -cdrom FILE); its kernel is boot/vmlinuz64 inside",
        ),
    ),
    (
        _is_ext,
        FileType(
            "ext",
            "an ext2/ext3/ext4 file system image",
            "give it to QEMU as a disk (-drive), and the kernel beside it; do not boot it as a kernel",
        ),
    ),
    (
        _at(0, b"QFI\xfb"),
        FileType("qcow2", "a QEMU disk image (qcow2)", "give it to QEMU as a disk: -drive file=FILE"),
    ),
    (
        lambda head: _at(0x200, b"EFI PART")(head) or _is_partitioned(head),
        FileType(
            "disk",
            "a whole disk image with a partition table (MBR or GPT)",
            "boot the disk itself (QEMU: -drive file=FILE,format=raw), not as a kernel",
        ),
    ),
    (
        _at(257, b"ustar"),
        FileType("tar", "a tar archive", "unpack it with `tar -xf FILE` and look for vmlinuz inside"),
    ),
    (
        _at(0, b"!<arch>\ndebian"),
        FileType(
            "deb",
            "a Debian package",
            "unpack it with `dpkg-deb -x FILE FOLDER`; a kernel package has boot/vmlinuz-* inside",
        ),
    ),
    (
        lambda head: head[:8] in (b"!<arch>\n", b"!<thin>\n"),
        FileType("ar", "an archive of object files (.a)", USE_BZIMAGE),
    ),
    (_at(0, b"PK\x03\x04"), FileType("zip", "a zip archive", "unpack it with `unzip FILE`")),
    (
        _at(0x1FE, b"\x55\xaa"),
        FileType(
            "bootsector",
            "a boot sector that is not of Linux, or of a Linux older than 1.3.73",
            USE_BZIMAGE,
        ),
    ),
    (
        _starts_with_word(b"<!doctype html", b"<html"),
        FileType(
            "html",
            "an HTML page: most likely a server's error page saved under a kernel's name",
            "read it for the reason, then download again",
        ),
    ),
    (
        lambda head: is_text(head) and bool(re.search(rb"^(# )?CONFIG_\w+[ =]", head, re.MULTILINE)),
        FileType(
            "kconfig",
            "a kernel configuration (.config), text",
            "it is what a kernel is built from; " + USE_BZIMAGE,
        ),
    ),
    (
        lambda head: bool(re.match(rb"[0-9a-f]{8,16} [A-Za-z?] \S+\n", head)),
        FileType("system-map", "a kernel's symbol table (System.map), text", USE_BZIMAGE),
    ),
    (is_text, FileType("text", "text", USE_BZIMAGE)),
)


def classify(head: bytes) -> FileType | None:
    """Return the type of a file by `head`, its first HEAD_BYTES bytes; None if unknown.

    ELF, PE and compressed files are not in the table, because they need to be parsed.
    """
    return next((kind for matches, kind in TYPES if matches(head)), None) if head else None
