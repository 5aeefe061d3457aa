"""bzImage: prove that a file is a whole, bootable x86-64 kernel.

A bzImage (Documentation/arch/x86/boot.rst) is the real-mode setup, (setup_sects + 1) * 512
bytes, then the protected-mode code, syssize * 16 bytes, which holds the compressed ELF
kernel as its payload.  tasks/bootheader.py reads the header; here it is held against the file.
"""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from tasks import compression, elf
from tasks.bootheader import (
    DAMAGED,
    HEADER_BASE,
    LOADED_HIGH,
    MZ,
    PARAGRAPH,
    PE_AMD64,
    PE_MACHINES,
    XLF_EFI_HANDOVER_64,
    XLF_KERNEL_64,
    BootHeader,
    PeHeader,
    read_header,
    read_pe,
    version_string,
)
from tasks.errors import UserError

SHORT_JUMP = 0xEB
MOST_SETUP_SECTS = 64  # "the real-mode code can total up to 32K"
OLDEST_64BIT = 0x020C  # 2.12 brought xloadflags, hence XLF_KERNEL_64
OLDEST_64BIT_HEADER_END = 0x268  # just after handover_offset
ENTRY_64 = 0x200  # the 64-bit entry point lies there in the protected-mode code
MOST_KERNEL = 1 << 30  # KERNEL_IMAGE_SIZE, bytes: all the address space a kernel has

HEAD = 64 << 10  # bytes read to judge a file; setup and PE header lie within
MOST_PADDING = 4096  # zero bytes that may follow the image (a file padded to a block)
MOST_SIGNATURE = 1 << 20  # bytes

BANNER = re.compile(rb"Linux version (\d\S*) \([^\0\n]*")
FIRST_WITHOUT_CRC = (6, 15)  # "x86/boot: Drop CRC-32 checksum and the build tool that generates it"


@dataclass(frozen=True)
class BzImage:
    """A file that passed every check of `check_bzimage`; `str()` is a report for a person."""

    path: Path
    size: int
    header: BootHeader
    pe: PeHeader | None
    version: str
    """The header's version string: release, (builder), #build, date."""
    method: str
    """Compression of the payload, as in tasks.compression."""
    vmlinux_size: int
    entry: int
    banner: str
    """`Linux version ...` as found in the unpacked kernel."""
    checksum: str
    """"right", "none" or "wrong"; wrong only for an image edited after its build."""

    @property
    def release(self) -> str:
        return self.version.split(" ")[0]

    def report(self) -> list[str]:
        """Return what was proved, one fact a line."""
        head, pe = self.header, self.pe
        efi = "no EFI stub (boots through BIOS, or an EFI boot loader such as GRUB)"
        if pe:
            efi = "EFI stub: EFI firmware can start this file itself"
            efi += ", signed" if pe.certificates[1] else ""
            efi += ", 64-bit handover" if head.xloadflags & XLF_EFI_HANDOVER_64 else ""
        checksum = {"right": "checksum right", "none": "no checksum", "wrong": "checksum wrong (edited?)"}
        return [
            f"version: {self.version}",
            f"boot protocol {head.protocol}, 64-bit entry point, "
            f"{'relocatable, ' if head.relocatable_kernel else ''}loads at {head.pref_address:#x} "
            f"and needs {head.init_size:,} bytes there",
            f"{self.size:,} bytes: setup {head.setup_size:,}, code {head.syssize * PARAGRAPH:,}; "
            + checksum[self.checksum],
            efi,
            f"payload: {self.method}, {head.payload_length:,} bytes, unpacks to an ELF64 x86-64 vmlinux "
            f"of {self.vmlinux_size:,} bytes, entry {self.entry:#x}",
            f"banner: {self.banner}",
            f"command line up to {head.cmdline_size} characters",
        ]

    def __str__(self) -> str:
        title = f"{self.path}: bootable x86-64 Linux kernel {self.release} (bzImage)"
        return "\n".join([title, *(f"  {line}" for line in self.report())])


def check_header(header: BootHeader) -> None:
    """Raise `UserError` unless the header is sane and says: 64-bit, loads high, has a payload."""
    if header.version >> 8 != 2:
        raise UserError(f"boot protocol {header.protocol} does not exist (2.00 to 2.15 do)", DAMAGED)
    if not header.loadflags & LOADED_HIGH:
        raise UserError(
            "this is a zImage (loadflags has no LOADED_HIGH): it loads below 640 KiB, and GRUB refuses it",
            "build `make bzImage`, and boot arch/x86/boot/bzImage",
        )
    if header.version < OLDEST_64BIT:
        raise UserError(
            f"boot protocol {header.protocol} is too old for 64-bit boot (2.12 or newer, Linux 3.8)",
            "this is an old or 32-bit kernel; build a 64-bit one (CONFIG_64BIT=y)",
        )
    if not header.xloadflags & XLF_KERNEL_64:
        raise UserError(
            "this is a 32-bit kernel: xloadflags has no XLF_KERNEL_64",
            "set CONFIG_64BIT=y (make ARCH=x86_64) for Tiny Core's CorePure64",
        )
    end = HEADER_BASE + (header.jump >> 8)
    checks = {
        f"jump at 0x200 is {header.jump:#06x}, expected a short jump (0xeb) over the header": (
            header.jump & 0xFF == SHORT_JUMP and end >= OLDEST_64BIT_HEADER_END
        ),
        f"setup_sects is {header.setup_sects}, more than the {MOST_SETUP_SECTS} that fit in 32 KiB": (
            header.setup_sects <= MOST_SETUP_SECTS
        ),
        f"syssize is {header.syssize} paragraphs, no room for the 64-bit entry point at 0x200": (
            header.syssize * PARAGRAPH > ENTRY_64
        ),
        f"syssize is {header.syssize} paragraphs, more than the 1 GiB a kernel may have": (
            header.syssize * PARAGRAPH <= MOST_KERNEL
        ),
        f"init_size is {header.init_size}, less than the code itself (syssize * 16)": (
            header.init_size >= header.syssize * PARAGRAPH
        ),
        f"kernel_alignment is {header.kernel_alignment:#x}, expected a power of two": (
            header.kernel_alignment.bit_count() == 1
        ),
        f"cmdline_size is {header.cmdline_size}, too small for any command line": header.cmdline_size >= 255,
        f"payload_offset {header.payload_offset} + payload_length {header.payload_length} "
        "does not lie inside the code": (
            header.payload_length > 4
            and header.payload_offset > 0
            and header.payload_offset + header.payload_length <= header.syssize * PARAGRAPH
        ),
    }
    for message, good in checks.items():
        if not good:
            raise UserError(f"damaged setup header: {message}", DAMAGED)


def check_size(header: BootHeader, pe: PeHeader | None, size: int) -> int:
    """Return where image and signature end.  Raises `UserError` unless that is what a file of `size` has.

    Up to 4,095 bytes of padding are allowed; `check_bzimage` proves that they are zero.
    """
    if size < header.image_size:
        raise UserError(
            f"truncated: the file has {size:,} bytes, its header says {header.image_size:,} "
            f"(setup {header.setup_size:,} + syssize {header.syssize:,} * 16): "
            f"{header.image_size - size:,} bytes are missing",
            DAMAGED,
        )
    offset, length = pe.certificates if pe else (0, 0)
    if length and not (header.image_size <= offset and length < MOST_SIGNATURE and offset + length <= size):
        raise UserError(f"truncated: the PE header puts {length:,} bytes of signature at {offset:,}", DAMAGED)
    end = max(header.image_size, offset + length)
    if size - end >= MOST_PADDING:
        raise UserError(
            f"{size - end:,} bytes follow the kernel, which by syssize ends at {header.image_size:,}",
            "something was appended, or the header is damaged; build or copy it again",
        )
    return end


def check_efi(header: BootHeader, pe: PeHeader | None, starts_mz: bool) -> None:
    """Raise `UserError` if what the header says of EFI and the PE header do not agree."""
    if starts_mz and pe is None:
        raise UserError('damaged EFI stub: "MZ" at 0 but no PE header behind it', DAMAGED)
    if pe and (pe.machine != PE_AMD64 or not pe.plus):
        kind = PE_MACHINES.get(pe.machine, hex(pe.machine))
        raise UserError(f"the EFI stub's PE header is for {kind}, expected x86-64 (0x8664, PE32+)", DAMAGED)
    if pe and not header.setup_size <= pe.entry < header.image_size:
        raise UserError(f"damaged EFI stub: its entry point {pe.entry:#x} lies outside the code", DAMAGED)
    if header.xloadflags & XLF_EFI_HANDOVER_64 and not (
        pe and 0 < header.handover_offset < header.syssize * PARAGRAPH
    ):
        raise UserError(
            "xloadflags says XLF_EFI_HANDOVER_64, but there is no EFI stub or no usable handover_offset "
            f"({header.handover_offset:#x})",
            DAMAGED,
        )


def payload(data: memoryview, header: BootHeader) -> tuple[str, bytes]:
    """Return (compression, content) of an image's payload, unpacked and its size compared.

    Raises `UserError` if it is damaged, truncated or of unknown compression.
    """
    start = header.setup_size + header.payload_offset
    packed = data[start : start + header.payload_length]
    method = compression.detect(packed)
    try:
        # The kernel unpacks itself within init_size, so nothing larger can be right.
        content, end = compression.decompress_one(packed, 0, header.init_size)
    except UserError as error:
        raise UserError(f"kernel payload at {start:#x}: {error.message}", error.hint, error.detail) from None
    # All compressions end in the unpacked size: gzip by itself, the rest by what
    # scripts/Makefile.lib's size_append adds.  mkpiggy reads it there.
    (said,) = struct.unpack_from("<I", packed, len(packed) - 4)
    if end not in (len(packed), len(packed) - 4) or said != len(content):
        raise UserError(
            f"kernel payload at {start:#x}: the {method} stream ends at {end} of {len(packed)} "
            f"and unpacks to {len(content):,} bytes, but the size behind it says {said:,}",
            DAMAGED,
        )
    return method, content


def linux_banner(content: compression.Buffer | mmap.mmap) -> str:
    """Return the `Linux version RELEASE (...` line inside an unpacked kernel, "" if there is none."""
    found = BANNER.search(content)
    return found.group().decode("ascii", errors="replace") if found else ""


def check_vmlinux(content: bytes) -> tuple[int, str]:
    """Return (entry address, banner) of an unpacked kernel.

    Raises `UserError` unless it is an ELF64 x86-64 executable with loadable segments, its
    entry inside one of them, and a `Linux version` banner.
    """
    with elf.open_elf(content, "the unpacked payload") as kernel:
        if kernel.elfclass != 64 or kernel["e_machine"] != elf.X86_64:
            machine = elf.machine_name(kernel["e_machine"])
            raise UserError(f"the payload is ELF{kernel.elfclass} for {machine}, expected ELF64 for x86-64")
        entry = int(kernel["e_entry"])
        loads = [part.header for part in kernel.iter_segments() if part["p_type"] == "PT_LOAD"]
    if not loads:
        raise UserError("the payload has no PT_LOAD segment: nothing would be loaded", DAMAGED)
    if any(part["p_offset"] + part["p_filesz"] > len(content) for part in loads):
        raise UserError("the payload's segments reach beyond its end", DAMAGED)
    # The entry of vmlinux is a physical address (phys_startup_64 in vmlinux.lds.S).
    if not any(part["p_paddr"] <= entry < part["p_paddr"] + part["p_memsz"] for part in loads):
        raise UserError(f"the payload's entry {entry:#x} lies in none of its segments", DAMAGED)
    banner = linux_banner(content)
    if not banner:
        raise UserError('the payload has no "Linux version" banner: not a Linux kernel')
    return entry, banner


def checksum(image: memoryview, pe: PeHeader | None, version: str) -> str:
    """Return "right", "wrong" or "none" for the CRC-32 in the image's last four bytes.

    With it the CRC-32 of the image is zlib's 0xffffffff ("The Image Checksum"; 2.08 up to
    Linux 6.14).  Signing writes into the PE header afterwards, so those fields count as zero.
    """
    plain = bytearray(image)
    if pe:
        for place, length in ((pe.checksum_at, 4), (pe.certificates_at, 8)):
            if place:
                plain[place : place + length] = bytes(length)
    if zlib.crc32(plain) == 0xFFFFFFFF:
        return "right"
    numbers = re.match(r"(\d+)\.(\d+)", version)
    old = numbers and (int(numbers[1]), int(numbers[2])) < FIRST_WITHOUT_CRC
    return "wrong" if old else "none"


def check_bzimage(path: Path, *, release: str | None = None) -> BzImage:
    """Prove that `path` is a whole, bootable x86-64 bzImage, and return what was found.

    release: what `make kernelrelease` said.  Given, the version string and the banner
    inside must say the same, and an existing checksum must be right; without it, they
    must agree with each other and a wrong checksum is only reported.
    Raises `UserError` (its message starts with the path) for the first thing that is wrong.
    """
    try:
        return _check(path, release)
    except UserError as error:
        raise UserError(f"{path}: {error.message}", error.hint, error.detail) from None


def _check(path: Path, release: str | None) -> BzImage:
    with path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(HEAD)
        header = read_header(head)
        pe = read_pe(head)
        check_header(header)
        end = check_size(header, pe, size)
        check_efi(header, pe, head.startswith(MZ))
        file.seek(0)
        data = memoryview(file.read(header.image_size))
        file.seek(end)
        if any(file.read(MOST_PADDING)):
            raise UserError(f"{size - end} bytes that are not zero follow the kernel", DAMAGED)
    version = version_string(data, header)
    found = version.split(" ")[0]
    if not found:
        raise UserError(f"kernel_version ({header.kernel_version:#x}) points to no version string", DAMAGED)
    if release is not None and found != release:
        raise UserError(
            f"the image is Linux {found}, expected {release}", "an old image was left over; build again"
        )
    method, content = payload(data, header)
    entry, banner = check_vmlinux(content)
    inside = banner.split(" ")[2]
    if inside != found:
        raise UserError(
            f"the header says Linux {found}, but the kernel inside is {inside}",
            "the image is put together from two builds; remove arch/x86/boot and build again",
        )
    state = checksum(data, pe, found)
    if state == "wrong" and release is not None:
        raise UserError("the image's CRC-32 is wrong: it was changed after the build", DAMAGED)
    return BzImage(path, size, header, pe, version, method, len(content), entry, banner, state)
