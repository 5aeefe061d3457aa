# SPDX-License-Identifier: MIT
"""`./doit check FILE`: say what a file is, whether it boots as a kernel, and if not, what to use instead.

`grub_answer` says where GRUB's `error: invalid magic number` comes from.  The answers of ISOLINUX
and QEMU are those of ISOLINUX 6.04 and QEMU 7.2.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.config import architecture
from tasks.formats import bzimage, compression, elf
from tasks.formats.bzimage import (
    BOOT_FLAG,
    HEADER_BASE,
    HEADER_MAGIC,
    LOADED_HIGH,
    MZ,
    PE_MACHINES,
    BootHeader,
    read_header,
    read_pe,
)
from tasks.formats.magic import HEAD_BYTES, USE_BZIMAGE, FileType, classify
from tasks.util.errors import UserError, from_os_error
from tasks.util.text import did_you_mean

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

GRUB_HEADER = 0x268  # bytes GRUB reads before it looks at any of them
GRUB_OLDEST = 0x0203  # the boot protocol that it needs
NEAR = (
    "bzImage",
    "arch/x86/boot/bzImage",
    *(f"{folder}{one.files.kernel}" for one in architecture.every() for folder in ("", "kernel/", "boot/")),
)
DAMAGED_IMAGE = ("damaged", "a damaged kernel image")
SPECIAL = (
    (stat.S_ISBLK, "block-device", "a block device"),
    (stat.S_ISCHR, "char-device", "a character device"),
    (stat.S_ISFIFO, "fifo", "a named pipe"),
    (stat.S_ISSOCK, "socket", "a socket"),
)


def grub_answer(head: bytes, size: int) -> list[str]:
    """Return the error of GRUB 2.06's `linux` command for a file, and its cause; empty if GRUB takes it.

    head: the file's first 4 KiB or more; size: bytes of the whole file.
    """
    if size < GRUB_HEADER:
        return [
            "GRUB's `linux` answers: error: premature end of file "
            f"(of {size} bytes; the header alone has {GRUB_HEADER})"
        ]
    if boot_flag(head) != BOOT_FLAG:
        return [
            "GRUB's `linux` answers: error: invalid magic number.  It expects the boot protocol's 55 aa at "
            f"0x1fe and finds {head[0x1FE:0x200].hex(' ')}"
        ]
    (version,) = struct.unpack_from("<H", head, 0x206)
    if head[HEADER_BASE : HEADER_BASE + 4] != HEADER_MAGIC or version < GRUB_OLDEST:
        return ["GRUB's `linux` answers: error: version too old for 32-bit boot (it needs protocol 2.03)"]
    if not head[0x211] & LOADED_HIGH:
        return ["GRUB's `linux` answers: error: zImage doesn't support 32-bit boot"]
    return []


def boot_flag(head: bytes) -> int:
    """Return the number at 0x1fe (0 if there is none)."""
    return int.from_bytes(head[0x1FE:0x200], "little")


def kernel_hint(path: Path, otherwise: str, levels: int = 1) -> str:
    """Return a hint that names a bootable kernel near `path`, or `otherwise` if there is none."""
    near = bootable_near(path, levels)
    return f"use {near}, which has a kernel's boot header" if near else otherwise


def bootable_near(path: Path, levels: int) -> Path | None:
    """Return a file with a kernel's boot header near `path`, None if there is none.

    It is searched for in the folder of `path` and the `levels` - 1 folders above it, under the
    names that a kernel build and tcbuild give it.
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
    return bool(header.loadflags & LOADED_HIGH)


@dataclass(frozen=True)
class Verdict:
    """What a file is.  `str()` of it is the text for a person, without the hint."""

    path: Path
    kind: str
    description: str
    lines: tuple[str, ...] = ()
    ok: bool = False
    """Whether it can be booted as a kernel for PCs."""
    hint: str = ""

    def __str__(self) -> str:
        return "\n".join([f"{self.path}: {self.description}", *(f"  {line}" for line in self.lines)])


def check_files(folder: Path, paths: list[str] | None = None) -> None:
    """Print what each of `paths` (relative ones start at `folder`) is.

    Raises `UserError` if none is given, or one cannot be booted as a kernel.
    """
    if not paths:
        raise UserError(
            "no file named to check", "./doit check FILE, for example artifacts/apt/kernel/vmlinuz64"
        )
    failures = []
    for number, path in enumerate(paths):
        if number:
            print()
        try:
            check_file(folder / path)
        except UserError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        detail = "\n".join(f"  {error.message}\n    hint: {error.hint}" for error in failures)
        raise UserError(f"{len(failures)} of {len(paths)} files cannot be booted as a kernel", "", detail)


def check_file(path: Path) -> None:
    """Print what `path` is.  Raises `UserError` with a hint if it cannot be booted as a kernel."""
    verdict = identify(path)
    print(verdict)
    if not verdict.ok:
        raise UserError(f"{path} cannot be booted as a kernel: {verdict.description}", verdict.hint)


def identify(path: Path) -> Verdict:
    """Return what `path` is.  It never raises: a missing or damaged file is a verdict, too."""
    try:
        return _identify(path)
    except UserError as error:
        return Verdict(path, "damaged", error.message, hint=error.hint)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why, hint = str(error), ""
        if isinstance(error, OSError):
            why, hint = error.strerror or why, from_os_error(error).hint
        hint = hint or "check the path and its permissions"
        return Verdict(path, "unreadable", f"not readable ({why})", hint=hint)


def _identify(path: Path) -> Verdict:
    try:
        status = path.stat()
    except FileNotFoundError:
        return _missing(path)
    if stat.S_ISDIR(status.st_mode):
        return _directory(path)
    for test, kind, words in SPECIAL:
        if test(status.st_mode):  # opening one could block for ever
            return Verdict(path, kind, words, hint=kernel_hint(path, USE_BZIMAGE))
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return _regular(path, head, status.st_size)


def _regular(path: Path, head: bytes, size: int) -> Verdict:
    if not head:
        hint = "the program that writes it failed (full disk?); build it again"
        return Verdict(path, "empty", "an empty file", hint=kernel_hint(path, hint))
    if head.startswith(elf.MAGIC):
        verdict = _elf(path, head)
    elif head[HEADER_BASE : HEADER_BASE + 4] == HEADER_MAGIC and boot_flag(head) == BOOT_FLAG:
        return _boot_image(path, head, size)
    elif compression.detect(head) != "plain":
        verdict = _compressed(path, head)
    elif found := classify(head):
        verdict = Verdict(path, found.kind, found.description, hint=kernel_hint(path, found.hint))
    elif head.startswith(MZ):
        verdict = _pe(path, head)
    else:
        verdict = _unknown(path, head)
    return replace(verdict, lines=(*verdict.lines, *grub_answer(head, size)))


# Kernel images with a boot header


def _boot_image(path: Path, head: bytes, size: int) -> Verdict:
    grub = grub_answer(head, size)
    try:
        header = read_header(head)
    except UserError as error:
        lines = (error.message, *grub)
        return Verdict(path, "truncated", "a cut-off kernel image", lines, hint=kernel_hint(path, error.hint))
    found = _rejection(header, size)
    if found is None and _payload_is_lzo(path, header, size):
        # LZO (CONFIG_KERNEL_LZO) cannot be unpacked here, so only the rest of the image is checked.
        lines = (f"boot protocol {header.protocol}", "payload: lzo, not unpacked: its content is not checked")
        words = f"a Linux kernel for {bzimage.MACHINES[header.bits]} (bzImage)"
        return Verdict(path, "bzImage", words, lines, ok=True)
    try:
        image = bzimage.check_bzimage(path)
    except UserError as error:
        message = error.message.removeprefix(f"{path}: ")
        kind, words = found or DAMAGED_IMAGE
        # If the file is complete, the sizes in the header are damaged.
        if kind == "truncated" and not isinstance(error, bzimage.Truncated):
            kind, words = DAMAGED_IMAGE
        hint = kernel_hint(path, error.hint or bzimage.DAMAGED)
        return Verdict(path, kind, words, (message, *grub), hint=hint)
    title = f"a bootable {image.machine} Linux kernel {image.release} (bzImage)"
    return Verdict(path, "bzImage", title, tuple(image.report()), ok=True)


def _rejection(header: BootHeader, size: int) -> tuple[str, str] | None:
    """Return (kind, words) of an image whose header shows that it cannot boot; None if it does not."""
    if not header.loadflags & LOADED_HIGH:
        return "zimage", "a kernel image of the old kind (zImage)"
    if header.version < bzimage.OLDEST_64BIT:
        return "old-protocol", "a kernel image with an old boot protocol"
    if size <= header.setup_size:
        return "truncated", "only the setup part of a kernel image (setup.bin, or a file cut off there)"
    if size < header.image_size:
        return (
            "truncated",
            "a cut-off kernel image: boot loaders start it without an error, and it crashes",
        )
    return None


def _payload_is_lzo(path: Path, header: BootHeader, size: int) -> bool:
    with path.open("rb") as file:
        file.seek(header.setup_size + header.payload_offset)
        if compression.detect(file.read(16)) != "lzo":
            return False
        file.seek(0)
        head = file.read(bzimage.HEAD)
    try:
        pe = read_pe(head)
        bzimage.check_header(header)
        bzimage.check_size(header, pe, size)
        bzimage.check_efi(header, pe, head.startswith(MZ))
    except UserError:
        return False
    return True


# ELF files


def _elf(path: Path, head: bytes) -> Verdict:
    try:
        with elf.open_elf(path) as file:
            return _elf_kind(path, file)
    except UserError as error:
        return Verdict(
            path, "damaged-elf", f"a damaged ELF file ({error.message})", hint=kernel_hint(path, USE_BZIMAGE)
        )


def _elf_kind(path: Path, file: ELFFile) -> Verdict:
    machine, bits = file["e_machine"], file.elfclass
    names = {section.name for section in file.iter_sections()}
    banner = _banner(path)
    kind = f"ELF{bits} for {elf.machine_name(machine)}, {path.stat().st_size:,} bytes"
    if ".modinfo" in names and file["e_type"] == "ET_REL":
        info = elf.modinfo(path)
        name, magic = info.get("name", [path.stem])[0], info.get("vermagic", ["unknown"])[0]
        return Verdict(
            path,
            "module",
            f"a kernel module ({name}.ko)",
            (kind, f"for the kernel with vermagic {magic.strip()!r}"),
            hint="load it in the running kernel with `modprobe` or `insmod`; the kernel itself is vmlinuz64",
        )
    if machine != elf.X86_64:
        words = f"an ELF file for {elf.machine_name(machine)}{', a Linux kernel' if banner else ''}"
        return Verdict(
            path, "elf-other", words, (kind,), hint="for a 64-bit PC, run: make ARCH=x86_64 bzImage"
        )
    if ".rodata..compressed" in names:
        words = "an ELF file, arch/x86/boot/compressed/vmlinux: the compressed kernel and its unpacker"
        return _vmlinux(path, "vmlinux-compressed", words, (kind, "`make bzImage` goes one step further"))
    if (banner and ".interp" not in names) or {".init.text", "__ksymtab"} <= names:
        words = "an ELF file, the kernel as it was linked (vmlinux): for debuggers and `perf`, not to boot"
        return _vmlinux(path, "vmlinux", words, (kind, banner) if banner else (kind,))
    what = {"ET_EXEC": "a program", "ET_DYN": "a program or shared library", "ET_REL": "an object file"}
    return Verdict(
        path,
        "elf",
        f"{what.get(file['e_type'], 'an ELF file')} for Linux, not a kernel",
        (kind,),
        hint=kernel_hint(path, USE_BZIMAGE),
    )


def _vmlinux(path: Path, kind: str, words: str, lines: tuple[str, ...]) -> Verdict:
    more = (
        'boot loaders need the boot protocol (0xAA55 at 0x1fe, "HdrS" at 0x202); `make bzImage` compresses '
        "vmlinux and puts the setup code with that header in front",
        "ISOLINUX answers: Booting kernel failed: Invalid argument",
        "QEMU -kernel answers: Error loading uncompressed kernel without PVH ELF Note (unless CONFIG_PVH=y)",
    )
    return Verdict(path, kind, words, (*lines, *more), hint=kernel_hint(path, USE_BZIMAGE, levels=6))


def _banner(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return bzimage.linux_banner(view)


# Everything else


def _compressed(path: Path, head: bytes) -> Verdict:
    method = compression.detect(head)
    with path.open("rb") as file:  # the first block of bzip2 or LZ4 may not end within `head`
        packed = file.read(compression.LZ4_BOUND + 64)
    try:
        inside = compression.peek(memoryview(packed), 0, HEAD_BYTES)
    except UserError as error:
        words = f"a file compressed with {method}, unreadable: {error.message}"
        return Verdict(path, method, words, hint=error.hint)
    if inside.startswith(elf.MAGIC):
        what = _inner_elf(inside)
    else:
        what = classify(inside) or FileType("data", "data of no known kind", USE_BZIMAGE)
    words, hint, lines = f"a {method}-compressed file with {what.description} inside", what.hint, []
    if what.kind == "cpio":
        words = f"an initramfs: a {method}-compressed cpio archive like core.gz or rootfs64.gz"
        lines = ["the kernel unpacks it as its first root file system; it holds no kernel"]
    elif what.kind == "vmlinux":
        lines = ["a bzImage carries this as its payload, behind the setup code and an unpacker"]
        hint = kernel_hint(path, what.hint, levels=6)
    return Verdict(path, f"{method}-{what.kind}", words, tuple(lines), hint=hint)


def _inner_elf(inside: bytes) -> FileType:
    kind, machine = struct.unpack_from("<HH", inside.ljust(20, b"\0"), 16)
    if kind == 1:  # ET_REL
        return FileType("module", "a kernel module or object file", "load it with `modprobe` when Linux runs")
    if machine == 62:  # EM_X86_64; the payload inside bzImage is this
        return FileType("vmlinux", "an ELF kernel or program for x86-64 (vmlinux)", USE_BZIMAGE)
    return FileType("elf-other", f"an ELF file for another machine ({machine})", USE_BZIMAGE)


def _pe(path: Path, head: bytes) -> Verdict:
    pe = read_pe(head)
    if pe is None:
        return Verdict(
            path, "dos", "a DOS program, or a damaged EFI program", hint=kernel_hint(path, USE_BZIMAGE)
        )
    machine = PE_MACHINES.get(pe.machine, f"machine {pe.machine:#x}")
    if b".linux\0\0" in head[:4096]:
        hint = "start it from EFI firmware or with GRUB's `chainloader`; `linux` takes only a plain kernel"
        return Verdict(path, "uki", f"a unified kernel image for EFI, {machine}", hint=hint)
    words = f"a PE program for {machine} (EFI or Windows), not a Linux kernel"
    return Verdict(path, "pe", words, hint="start it from EFI firmware or with GRUB's `chainloader`")


def _unknown(path: Path, head: bytes) -> Verdict:
    lines = [f"it starts with {head[:16].hex(' ')}"]
    if path.name == "vmlinux.bin":
        lines.append(
            "by its name the protected-mode half of a bzImage; the setup code (setup.bin) is not in front",
        )
    return Verdict(
        path, "unknown", "data of no known kind", tuple(lines), hint=kernel_hint(path, USE_BZIMAGE, levels=4)
    )


def _missing(path: Path) -> Verdict:
    if path.is_symlink():
        words = f"a symbolic link to {os.readlink(path)}, which does not exist"
        return Verdict(
            path, "dangling-link", words, hint=kernel_hint(path, "create the link again, or build first")
        )
    folder = path.parent
    names = sorted(entry.name for entry in folder.iterdir()) if os.access(folder, os.R_OK | os.X_OK) else []
    hint = did_you_mean(path.name, names, lambda name: str(folder / name))
    hint = hint or kernel_hint(path, "build it first: ./doit kernel")
    return Verdict(path, "missing", "no such file", hint=hint)


def _directory(path: Path) -> Verdict:
    near = bootable_near(path / "x", levels=1)
    hint = f"did you mean {near}?" if near else "name the kernel's file, for example boot/vmlinuz64 below it"
    return Verdict(path, "directory", "a folder", hint=hint)
