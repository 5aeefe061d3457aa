# SPDX-License-Identifier: MIT
"""Check that a file is a complete, bootable kernel for PCs (bzImage), of 64 or 32 bits.

A bzImage (Documentation/arch/x86/boot.rst) has two parts: the real-mode setup of
(setup_sects + 1) * 512 bytes, and the protected-mode code of syssize * 16 bytes.  The code
holds the compressed ELF kernel as its payload.
"""

from __future__ import annotations

import dataclasses
import mmap
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.formats import compression, elf
from tasks.formats.compression import Buffer
from tasks.util.errors import UserError

BOOT_FLAG = 0xAA55
HEADER_MAGIC = b"HdrS"  # 0x53726448
SECTOR = 512
PARAGRAPH = 16
HEADER_BASE = 0x202  # offset of the magic; the jump's distance counts from here, too
LOADED_HIGH = 1 << 0  # loadflags: loads at 0x100000 (bzImage), not at 0x10000 (zImage)
XLF_KERNEL_64 = 1 << 0
XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1
XLF_EFI_HANDOVER_32 = 1 << 2
XLF_EFI_HANDOVER_64 = 1 << 3
XLF_EFI_KEXEC = 1 << 4
MZ = b"MZ"
PE = b"PE\0\0"
PE_AMD64, PE_I386 = 0x8664, 0x014C
PE_MACHINES = {PE_AMD64: "x86-64", PE_I386: "32-bit x86", 0xAA64: "ARM64", 0x01C2: "ARM", 0x5064: "RISC-V 64"}
PE32_PLUS = 0x020B
MACHINES = {64: "x86-64", 32: "32-bit x86"}
ELF_MACHINES = {64: elf.X86_64, 32: elf.I386}
DAMAGED = "the file is damaged or was cut short; build or copy it again"


def header_field(offset: int, form: str, since: int = 0) -> Any:
    """Declare a header field: its offset, its struct letter, and the protocol version that added it."""
    return dataclasses.field(metadata={"offset": offset, "form": "<" + form, "since": since})


class Truncated(UserError):
    """The file is shorter than its headers say."""


@dataclass(frozen=True)
class PeHeader:
    """The PE header that EFI firmware reads when the kernel has the EFI stub."""

    machine: int
    plus: bool
    """Whether the format is PE32+, which 64-bit firmware requires."""
    entry: int
    """AddressOfEntryPoint; in a kernel it is also the offset in the file."""
    checksum_at: int
    certificates_at: int
    """Offset of the certificate table's directory entry, 0 if there is none."""
    certificates: tuple[int, int]
    """(file offset, bytes) of the Secure Boot signature."""


@dataclass(frozen=True)
class BootHeader:
    """The setup header; fields newer than the image's protocol version are 0."""

    setup_sects: int = header_field(0x1F1, "B")
    """512-byte sectors after the boot sector; a 0 in the file means 4 and is read as 4."""
    root_flags: int = header_field(0x1F2, "H")
    syssize: int = header_field(0x1F4, "I")
    """16-byte units of protected-mode code; before protocol 2.04 it has 16 bits and is unreliable."""
    ram_size: int = header_field(0x1F8, "H")
    vid_mode: int = header_field(0x1FA, "H")
    root_dev: int = header_field(0x1FC, "H")
    boot_flag: int = header_field(0x1FE, "H")
    jump: int = header_field(0x200, "H")
    header: int = header_field(0x202, "I")
    version: int = header_field(0x206, "H")
    realmode_swtch: int = header_field(0x208, "I")
    start_sys_seg: int = header_field(0x20C, "H")
    kernel_version: int = header_field(0x20E, "H")
    """Offset of the version string minus 0x200."""
    type_of_loader: int = header_field(0x210, "B")
    loadflags: int = header_field(0x211, "B")
    setup_move_size: int = header_field(0x212, "H")
    code32_start: int = header_field(0x214, "I")
    ramdisk_image: int = header_field(0x218, "I")
    ramdisk_size: int = header_field(0x21C, "I")
    bootsect_kludge: int = header_field(0x220, "I")
    heap_end_ptr: int = header_field(0x224, "H", 0x0201)
    ext_loader_ver: int = header_field(0x226, "B", 0x0202)
    ext_loader_type: int = header_field(0x227, "B", 0x0202)
    cmd_line_ptr: int = header_field(0x228, "I", 0x0202)
    initrd_addr_max: int = header_field(0x22C, "I", 0x0203)
    kernel_alignment: int = header_field(0x230, "I", 0x0205)
    relocatable_kernel: int = header_field(0x234, "B", 0x0205)
    min_alignment: int = header_field(0x235, "B", 0x020A)
    xloadflags: int = header_field(0x236, "H", 0x020C)
    cmdline_size: int = header_field(0x238, "I", 0x0206)
    hardware_subarch: int = header_field(0x23C, "I", 0x0207)
    hardware_subarch_data: int = header_field(0x240, "Q", 0x0207)
    payload_offset: int = header_field(0x248, "I", 0x0208)
    """Bytes from the start of the protected-mode code."""
    payload_length: int = header_field(0x24C, "I", 0x0208)
    setup_data: int = header_field(0x250, "Q", 0x0209)
    pref_address: int = header_field(0x258, "Q", 0x020A)
    init_size: int = header_field(0x260, "I", 0x020A)
    handover_offset: int = header_field(0x264, "I", 0x020B)
    kernel_info_offset: int = header_field(0x268, "I", 0x020F)

    @property
    def bits(self) -> int:
        """64 or 32: what the kernel inside runs with."""
        return 64 if self.xloadflags & XLF_KERNEL_64 else 32

    @property
    def protocol(self) -> str:
        return f"{self.version >> 8}.{self.version & 0xFF:02d}"

    @property
    def setup_size(self) -> int:
        """Bytes of boot sector and setup; the protected-mode code starts there."""
        return (self.setup_sects + 1) * SECTOR

    @property
    def image_size(self) -> int:
        """Bytes of the complete image."""
        return self.setup_size + self.syssize * PARAGRAPH


def read_header(data: Buffer) -> BootHeader:
    """Return the setup header of an image; the first KiB of the image is enough.

    Raises `UserError` if the data is too short or a magic is missing: 0xAA55 at 0x1FE or
    "HdrS" at 0x202.
    """
    if len(data) < HEADER_BASE:
        raise UserError(
            f"not a bzImage: {len(data)} bytes are too few for a boot sector (the header starts at 0x1f1)",
            DAMAGED,
        )
    (boot_flag,) = struct.unpack_from("<H", data, 0x1FE)
    if boot_flag != BOOT_FLAG:
        raise UserError(
            f"not a bzImage: boot_flag at 0x1fe is {boot_flag:#06x}, expected {BOOT_FLAG:#06x}",
            "GRUB reports this as `invalid magic number`; "
            "the file to boot is arch/x86/boot/bzImage of the build folder",
        )
    if len(data) < HEADER_BASE + 6 or bytes(data[HEADER_BASE : HEADER_BASE + 4]) != HEADER_MAGIC:
        found = bytes(data[HEADER_BASE : HEADER_BASE + 4]).hex(" ") or "nothing"
        raise UserError(
            f'no "HdrS" at 0x202 but {found}: not a Linux kernel, or one older than boot protocol 2.00',
            "use a kernel of Linux 3.8 or newer",
        )
    (version,) = struct.unpack_from("<H", data, 0x206)
    values: dict[str, int] = {}
    for field in dataclasses.fields(BootHeader):
        offset, form, since = (field.metadata[key] for key in ("offset", "form", "since"))
        present = version >= since
        if present and offset + struct.calcsize(form) > len(data):
            raise UserError(f"the file ends in the setup header, before {field.name} at {offset:#x}", DAMAGED)
        values[field.name] = struct.unpack_from(form, data, offset)[0] if present else 0
    values["setup_sects"] = values["setup_sects"] or 4
    if version < 0x0204:
        values["syssize"] &= 0xFFFF
    return BootHeader(**values)


def read_pe(data: Buffer) -> PeHeader | None:
    """Return the PE header of data that starts with "MZ"; None if it has no complete one.

    The format is Microsoft's PE/COFF.
    """
    if len(data) < 0x40 or bytes(data[:2]) != MZ:
        return None
    (start,) = struct.unpack_from("<I", data, 0x3C)
    optional = start + 24
    if bytes(data[start : start + 4]) != PE or len(data) < optional + 152:
        return None
    (machine,) = struct.unpack_from("<H", data, start + 4)
    magic, entry = struct.unpack_from("<H14xI", data, optional)
    plus = magic == PE32_PLUS
    count, directories = optional + (108 if plus else 92), optional + (112 if plus else 96)
    has_certificates = struct.unpack_from("<I", data, count)[0] > 4
    table = directories + 4 * 8 if has_certificates else 0
    certificates = struct.unpack_from("<II", data, table) if table else (0, 0)
    return PeHeader(machine, plus, entry, optional + 64, table, certificates)


def version_string(data: Buffer, header: BootHeader) -> str:
    """Return the version string of the setup; "" if the header points to none."""
    start = header.kernel_version + SECTOR
    if not header.kernel_version or header.kernel_version >= header.setup_sects * SECTOR:
        return ""
    text = bytes(data[start : header.setup_size]).partition(b"\0")[0]
    return text.decode("ascii", errors="replace").strip()


SHORT_JUMP = 0xEB
MAX_SETUP_SECTS = 64  # "the real-mode code can total up to 32K"
OLDEST_64BIT = 0x020C  # 2.12 added xloadflags with XLF_KERNEL_64
OLDEST_64BIT_HEADER_END = 0x268  # just after handover_offset
ENTRY_64 = 0x200  # offset of the 64-bit entry point in the protected-mode code
MAX_KERNEL_BYTES = 1 << 30  # KERNEL_IMAGE_SIZE: the address space of a kernel

HEAD = 64 << 10  # bytes at the start of a file that hold the setup and the PE header
MAX_PADDING = 4096  # zero bytes that may follow the image, because files are padded to blocks
MAX_SIGNATURE = 1 << 20  # bytes

# utsname holds 64 bytes.  A release names folders: lib/modules/RELEASE.
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}")
BANNER = re.compile(rb"Linux version (\d\S*) \([^\0\n]*")
FIRST_WITHOUT_CRC = (6, 15)  # "x86/boot: Drop CRC-32 checksum and the build tool that generates it"


@dataclass(frozen=True)
class BzImage:
    """A file that passed every check of `check_bzimage`; `str()` returns a readable report."""

    path: Path
    size: int
    header: BootHeader
    pe: PeHeader | None
    version: str
    """The header's version string: release, (builder), #build, date."""
    method: str
    """Compression of the payload, as `compression.detect` names it."""
    vmlinux_size: int
    entry: int
    banner: str
    """The `Linux version ...` line of the unpacked kernel."""
    checksum: str
    """"right", "none" or "wrong"; wrong only for an image edited after its build."""

    @property
    def release(self) -> str:
        return self.version.split(" ")[0]

    @property
    def machine(self) -> str:
        """The machine it runs on, for people."""
        return MACHINES[self.header.bits]

    def report(self) -> list[str]:
        """Return the facts found by the checks, one a line."""
        head, pe = self.header, self.pe
        efi = "no EFI stub (boots through BIOS, or an EFI boot loader such as GRUB)"
        if pe:
            efi = "EFI stub: EFI firmware can start this file itself"
            efi += ", signed" if pe.certificates[1] else ""
            efi += ", 64-bit handover" if head.xloadflags & XLF_EFI_HANDOVER_64 else ""
            efi += ", 32-bit handover" if head.bits == 32 and head.xloadflags & XLF_EFI_HANDOVER_32 else ""
        checksum = {"right": "checksum right", "none": "no checksum", "wrong": "checksum wrong (edited?)"}
        return [
            f"version: {self.version}",
            f"boot protocol {head.protocol}, {head.bits}-bit entry point, "
            f"{'relocatable, ' if head.relocatable_kernel else ''}loads at {head.pref_address:#x} "
            f"and needs {head.init_size:,} bytes there",
            f"{self.size:,} bytes: setup {head.setup_size:,}, code {head.syssize * PARAGRAPH:,}; "
            + checksum[self.checksum],
            efi,
            f"payload: {self.method}, {head.payload_length:,} bytes, unpacks to an "
            f"ELF{head.bits} {MACHINES[head.bits]} vmlinux "
            f"of {self.vmlinux_size:,} bytes, entry {self.entry:#x}",
            f"banner: {self.banner}",
            f"command line up to {head.cmdline_size} characters",
        ]

    def __str__(self) -> str:
        title = f"{self.path}: bootable {self.machine} Linux kernel {self.release} (bzImage)"
        return "\n".join([title, *(f"  {line}" for line in self.report())])


def check_header(header: BootHeader, bits: int = 0) -> None:
    """Raise `UserError` unless the header is valid, loads high and has a payload.

    bits: 64 or 32, which the kernel must have; 0 for either.
    """
    if header.version >> 8 != 2:
        raise UserError(f"boot protocol {header.protocol} does not exist; known are 2.00 to 2.15", DAMAGED)
    if not header.loadflags & LOADED_HIGH:
        raise UserError(
            "this is a zImage (loadflags has no LOADED_HIGH): it loads below 640 KiB, and GRUB refuses it",
            "build `make bzImage`, and boot arch/x86/boot/bzImage",
        )
    if header.version < OLDEST_64BIT:
        raise UserError(
            f"boot protocol {header.protocol} is too old (2.12 or newer, Linux 3.8)",
            "build a newer kernel",
        )
    if bits == 64 and header.bits != 64:
        raise UserError(
            "this is a 32-bit kernel: xloadflags has no XLF_KERNEL_64",
            "set CONFIG_64BIT=y (make ARCH=x86_64) for Tiny Core's CorePure64",
        )
    if bits == 32 and header.bits != 32:
        raise UserError(
            "this is a 64-bit kernel: xloadflags has XLF_KERNEL_64, and a 32-bit PC cannot run it",
            "leave out CONFIG_64BIT (make ARCH=i386) for Tiny Core's Core",
        )
    end = HEADER_BASE + (header.jump >> 8)
    checks = {
        f"jump at 0x200 is {header.jump:#06x}, expected a short jump (0xeb) over the header": (
            header.jump & 0xFF == SHORT_JUMP and end >= OLDEST_64BIT_HEADER_END
        ),
        f"setup_sects is {header.setup_sects}, more than the {MAX_SETUP_SECTS} that fit in 32 KiB": (
            header.setup_sects <= MAX_SETUP_SECTS
        ),
        f"syssize is {header.syssize} paragraphs, no room for the entry points up to 0x200": (
            header.syssize * PARAGRAPH > ENTRY_64
        ),
        f"syssize is {header.syssize} paragraphs, more than the 1 GiB a kernel may have": (
            header.syssize * PARAGRAPH <= MAX_KERNEL_BYTES
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
    """Return the offset where image and signature end, in a file of `size` bytes.

    Up to 4,095 bytes of padding may follow; `check_bzimage` checks that they are zero.
    Raises `UserError` if the file is too short or too long.
    """
    if size < header.image_size:
        raise Truncated(
            f"truncated: the file has {size:,} bytes, its header says {header.image_size:,} "
            f"(setup {header.setup_size:,} + syssize {header.syssize:,} * 16): "
            f"{header.image_size - size:,} bytes are missing",
            DAMAGED,
        )
    offset, length = pe.certificates if pe else (0, 0)
    if length and not (header.image_size <= offset and length < MAX_SIGNATURE and offset + length <= size):
        raise Truncated(f"truncated: the PE header puts {length:,} bytes of signature at {offset:,}", DAMAGED)
    end = max(header.image_size, offset + length)
    if size - end >= MAX_PADDING:
        raise UserError(
            f"{size - end:,} bytes follow the kernel, which by syssize ends at {header.image_size:,}",
            "something was appended, or the header is damaged; build or copy it again",
        )
    return end


def check_efi(header: BootHeader, pe: PeHeader | None, has_mz: bool) -> None:
    """Raise `UserError` if the EFI fields of the setup header contradict the PE header."""
    if has_mz and pe is None:
        raise UserError('damaged EFI stub: "MZ" at 0, but no PE header follows', DAMAGED)
    expected = (PE_AMD64, True) if header.bits == 64 else (PE_I386, False)
    if pe and (pe.machine, pe.plus) != expected:
        kind = PE_MACHINES.get(pe.machine, hex(pe.machine))
        wanted = f"{MACHINES[header.bits]} ({expected[0]:#x}, {'PE32+' if expected[1] else 'PE32'})"
        raise UserError(f"the EFI stub's PE header is for {kind}, expected {wanted}", DAMAGED)
    if pe and not header.setup_size <= pe.entry < header.image_size:
        raise UserError(f"damaged EFI stub: its entry point {pe.entry:#x} lies outside the code", DAMAGED)
    handover = XLF_EFI_HANDOVER_64 if header.bits == 64 else XLF_EFI_HANDOVER_32
    if header.xloadflags & handover and not (pe and 0 < header.handover_offset < header.syssize * PARAGRAPH):
        raise UserError(
            f"xloadflags says XLF_EFI_HANDOVER_{header.bits}, but there is no EFI stub "
            f"or no usable handover_offset ({header.handover_offset:#x})",
            DAMAGED,
        )


def payload(data: memoryview, header: BootHeader) -> tuple[str, bytes]:
    """Unpack an image's payload and return (compression, content).

    Raises `UserError` if it is damaged, truncated, of another size than stated, or of unknown
    compression.
    """
    start = header.setup_size + header.payload_offset
    packed = data[start : start + header.payload_length]
    method = compression.detect(packed)
    try:
        # The kernel unpacks itself within init_size bytes, so a larger content is an error.
        content, end = compression.decompress_one(packed, 0, header.init_size)
    except UserError as error:
        raise UserError(f"kernel payload at {start:#x}: {error.message}", error.hint, error.detail) from None
    # Every payload ends with its unpacked size, which mkpiggy reads.  It is part of the gzip
    # format; for the other formats size_append of scripts/Makefile.lib appends it.
    (stated_size,) = struct.unpack_from("<I", packed, len(packed) - 4)
    if end not in (len(packed), len(packed) - 4) or stated_size != len(content):
        raise UserError(
            f"kernel payload at {start:#x}: the {method} stream ends at {end} of {len(packed)} "
            f"and unpacks to {len(content):,} bytes, but the size stated behind it is {stated_size:,}",
            DAMAGED,
        )
    return method, content


def build_id(path: Path) -> str:
    """Return the build-id of the kernel inside an image, as `elf.build_id` does.

    Raises `UserError` for a file that is no whole bzImage.
    """
    data = memoryview(path.read_bytes())
    return elf.build_id(payload(data, read_header(data))[1], f"the kernel inside {path.name}")


def linux_banner(content: compression.Buffer | mmap.mmap) -> str:
    """Return the `Linux version RELEASE (...` line of an unpacked kernel; "" if there is none."""
    found = BANNER.search(content)
    return found.group().decode("ascii", errors="replace") if found else ""


def check_vmlinux(content: bytes, bits: int) -> tuple[int, str]:
    """Return (entry address, banner) of an unpacked kernel.

    Raises `UserError` unless it is an ELF executable for x86 of `bits` with loadable segments, its
    entry inside one of them, and a `Linux version` banner.
    """
    with elf.open_elf(content, "the unpacked payload") as kernel:
        if (kernel.elfclass, kernel["e_machine"]) != (bits, ELF_MACHINES[bits]):
            machine = elf.machine_name(kernel["e_machine"])
            expected = f"ELF{bits} for {elf.machine_name(ELF_MACHINES[bits])}"
            raise UserError(f"the payload is ELF{kernel.elfclass} for {machine}, expected {expected}")
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

    With a right checksum, zlib's CRC-32 of the image is 0xffffffff ("The Image Checksum" in
    boot.rst; boot protocol 2.08 up to Linux 6.14).  Signing changes fields of the PE header
    later, so these fields count as zero.
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


def check_bzimage(path: Path, *, bits: int = 0, release: str | None = None) -> BzImage:
    """Check that `path` is a complete, bootable bzImage, and return its facts.

    bits: 64 or 32, which the kernel must have; 0 for either.
    release: the output of `make kernelrelease`.  With it, the version string and the banner must be
    of this release, and an existing checksum must be right.  Without it, version string and banner
    must agree, and a wrong checksum is only reported.
    Raises `UserError` for the first fault; its message starts with the path.
    """
    try:
        return _check(path, bits, release)
    except UserError as error:
        raise error.reworded(f"{path}: {error.message}") from None


def _check(path: Path, bits: int, release: str | None) -> BzImage:
    with path.open("rb") as file:
        size = path.stat().st_size
        head = file.read(HEAD)
        header = read_header(head)
        pe = read_pe(head)
        check_header(header, bits)
        end = check_size(header, pe, size)
        check_efi(header, pe, head.startswith(MZ))
        file.seek(0)
        data = memoryview(file.read(header.image_size))
        file.seek(end)
        if any(file.read(MAX_PADDING)):
            raise UserError(f"{size - end} bytes that are not zero follow the kernel", DAMAGED)
    version = version_string(data, header)
    found = version.split(" ")[0]
    if not found:
        raise UserError(f"kernel_version ({header.kernel_version:#x}) points to no version string", DAMAGED)
    if not RELEASE.fullmatch(found):
        raise UserError(f"the image says that it is Linux {found[:64]!r}, which is no release", DAMAGED)
    if release is not None and found != release:
        raise UserError(
            f"the image is Linux {found}, expected {release}", "an old image is in its place; build again"
        )
    method, content = payload(data, header)
    entry, banner = check_vmlinux(content, header.bits)
    inside = banner.split(" ")[2]
    if inside != found:
        raise UserError(
            f"the header says Linux {found}, but the kernel inside is {inside}",
            "the image is a mix of two builds; remove arch/x86/boot and build again",
        )
    state = checksum(data, pe, found)
    if state == "wrong" and release is not None:
        raise UserError("the image's CRC-32 is wrong: it was changed after the build", DAMAGED)
    return BzImage(path, size, header, pe, version, method, len(content), entry, banner, state)
