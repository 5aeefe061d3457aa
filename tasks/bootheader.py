"""The boot protocol's setup header, and the PE header of the EFI stub in front of it.

Names and offsets are those of the kernel's Documentation/arch/x86/boot.rst ("The
Linux/x86 Boot Protocol"; x86/boot.rst before 6.6).  All fields are little-endian.
"""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass
from typing import Any

from tasks.compression import Buffer
from tasks.errors import UserError

BOOT_FLAG = 0xAA55
HEADER_MAGIC = b"HdrS"  # 0x53726448
SECTOR = 512
PARAGRAPH = 16
HEADER_BASE = 0x202  # the magic is here; the jump's distance counts from here too

LOADED_HIGH = 1 << 0  # loadflags: loads at 0x100000 (bzImage), not at 0x10000 (zImage)
XLF_KERNEL_64 = 1 << 0
XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1
XLF_EFI_HANDOVER_32 = 1 << 2
XLF_EFI_HANDOVER_64 = 1 << 3
XLF_EFI_KEXEC = 1 << 4

MZ = b"MZ"
PE = b"PE\0\0"
PE_AMD64 = 0x8664
PE_MACHINES = {PE_AMD64: "x86-64", 0x014C: "32-bit x86", 0xAA64: "ARM64", 0x01C2: "ARM", 0x5064: "RISC-V 64"}
PE32_PLUS = 0x020B

DAMAGED = "the file is damaged or was cut short; build or copy it again"


def at(offset: int, form: str, since: int = 0) -> Any:
    """Say where a header field lies, its struct letter, and the protocol version that brought it."""
    return dataclasses.field(metadata={"offset": offset, "form": "<" + form, "since": since})


@dataclass(frozen=True)
class PeHeader:
    """The PE header that EFI firmware reads when the kernel has the EFI stub."""

    machine: int
    plus: bool
    """PE32+, what 64-bit firmware takes."""
    entry: int
    """AddressOfEntryPoint: for a kernel also the offset in the file."""
    checksum_at: int
    certificates_at: int
    """Offset of the certificate table's directory entry, 0 if there is none."""
    certificates: tuple[int, int]
    """(file offset, bytes) of the Secure Boot signature."""


@dataclass(frozen=True)
class BootHeader:
    """The setup header; fields newer than the image's protocol version are 0."""

    setup_sects: int = at(0x1F1, "B")
    """512-byte sectors after the boot sector; 0 in the file means 4 and is given as 4."""
    root_flags: int = at(0x1F2, "H")
    syssize: int = at(0x1F4, "I")
    """16-byte units of protected-mode code; before 2.04 only 16 bits, not to be trusted."""
    ram_size: int = at(0x1F8, "H")
    vid_mode: int = at(0x1FA, "H")
    root_dev: int = at(0x1FC, "H")
    boot_flag: int = at(0x1FE, "H")
    jump: int = at(0x200, "H")
    header: int = at(0x202, "I")
    version: int = at(0x206, "H")
    realmode_swtch: int = at(0x208, "I")
    start_sys_seg: int = at(0x20C, "H")
    kernel_version: int = at(0x20E, "H")
    """Offset of the version string, less 0x200."""
    type_of_loader: int = at(0x210, "B")
    loadflags: int = at(0x211, "B")
    setup_move_size: int = at(0x212, "H")
    code32_start: int = at(0x214, "I")
    ramdisk_image: int = at(0x218, "I")
    ramdisk_size: int = at(0x21C, "I")
    bootsect_kludge: int = at(0x220, "I")
    heap_end_ptr: int = at(0x224, "H", 0x0201)
    ext_loader_ver: int = at(0x226, "B", 0x0202)
    ext_loader_type: int = at(0x227, "B", 0x0202)
    cmd_line_ptr: int = at(0x228, "I", 0x0202)
    initrd_addr_max: int = at(0x22C, "I", 0x0203)
    kernel_alignment: int = at(0x230, "I", 0x0205)
    relocatable_kernel: int = at(0x234, "B", 0x0205)
    min_alignment: int = at(0x235, "B", 0x020A)
    xloadflags: int = at(0x236, "H", 0x020C)
    cmdline_size: int = at(0x238, "I", 0x0206)
    hardware_subarch: int = at(0x23C, "I", 0x0207)
    hardware_subarch_data: int = at(0x240, "Q", 0x0207)
    payload_offset: int = at(0x248, "I", 0x0208)
    """Bytes from the start of the protected-mode code."""
    payload_length: int = at(0x24C, "I", 0x0208)
    setup_data: int = at(0x250, "Q", 0x0209)
    pref_address: int = at(0x258, "Q", 0x020A)
    init_size: int = at(0x260, "I", 0x020A)
    handover_offset: int = at(0x264, "I", 0x020B)
    kernel_info_offset: int = at(0x268, "I", 0x020F)

    @property
    def protocol(self) -> str:
        return f"{self.version >> 8}.{self.version & 0xFF:02d}"

    @property
    def setup_size(self) -> int:
        """Bytes of boot sector and setup: where the protected-mode code starts."""
        return (self.setup_sects + 1) * SECTOR

    @property
    def image_size(self) -> int:
        """Bytes the whole file must have."""
        return self.setup_size + self.syssize * PARAGRAPH


def read_header(data: Buffer) -> BootHeader:
    """Return the setup header of an image (its first KiB is enough).

    Raises `UserError` if the data is too short or one of the magics is absent: 0xAA55 at
    0x1FE, "HdrS" at 0x202.
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
            "this is the number behind GRUB's `invalid magic number`; "
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
    """Return the PE header behind an "MZ", None if there is no whole one (format: Microsoft's PE/COFF)."""
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
    """Return the version string of the setup ("" if the header points to none)."""
    start = header.kernel_version + SECTOR
    if not header.kernel_version or header.kernel_version >= header.setup_sects * SECTOR:
        return ""
    text = bytes(data[start : header.setup_size]).partition(b"\0")[0]
    return text.decode("ascii", errors="replace").strip()
