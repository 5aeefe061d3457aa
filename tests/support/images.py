# SPDX-License-Identifier: MIT
"""Small ELF files and bzImages made byte by byte, with any field wrong on demand.

Nothing here uses the code under test: offsets stand here a second time, from the
kernel's boot.rst and the ELF specification.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence

import zstandard

RELEASE = "6.12.1-tcbuild"
X86_64, I386, AARCH64 = 62, 3, 183
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB, DT_STRSZ, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 10, 14, 15, 29
DT_VERDEF, DT_VERNEED = 0x6FFFFFFC, 0x6FFFFFFE

FIELDS = {  # name: (offset, struct letter)
    "setup_sects": (0x1F1, "B"),
    "syssize": (0x1F4, "I"),
    "boot_flag": (0x1FE, "H"),
    "jump": (0x200, "H"),
    "header": (0x202, "I"),
    "version": (0x206, "H"),
    "kernel_version": (0x20E, "H"),
    "loadflags": (0x211, "B"),
    "kernel_alignment": (0x230, "I"),
    "relocatable_kernel": (0x234, "B"),
    "xloadflags": (0x236, "H"),
    "cmdline_size": (0x238, "I"),
    "payload_offset": (0x248, "I"),
    "payload_length": (0x24C, "I"),
    "pref_address": (0x258, "Q"),
    "init_size": (0x260, "I"),
    "handover_offset": (0x264, "I"),
    "mz": (0x00, "H"),
    "pe_start": (0x3C, "I"),
    "pe_magic": (0x40, "I"),
    "pe_machine": (0x44, "H"),
    "pe_optional_magic": (0x58, "H"),
    "pe_entry": (0x68, "I"),
    "pe_checksum": (0x98, "I"),
    "pe_directories": (0xC4, "I"),
    "pe_directories_32": (0xB4, "I"),
    "pe_certificates": (0xE8, "I"),
    "pe_certificates_size": (0xEC, "I"),
}
SETUP_SECTS = 7
SETUP_SIZE = (SETUP_SECTS + 1) * 512
PAYLOAD_OFFSET = 0x2C4


def elf(
    *,
    machine: int = X86_64,
    kind: int = ET_EXEC,
    bits: int = 64,
    entry: int = 0,
    segments: Sequence[tuple[int, int, bytes]] = (),
    sections: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return an ELF file with segments (type, address, content) and named PROGBITS sections."""
    long = "Q" if bits == 64 else "I"
    ehsize, phsize, shsize = (64, 56, 64) if bits == 64 else (52, 32, 40)
    body, place = b"", ehsize + phsize * len(segments)
    programs = headers = b""
    for segment, address, content in segments:
        size = len(content)
        if bits == 64:
            programs += struct.pack(
                "<IIQQQQQQ", segment, 7, place + len(body), address, address, size, size, 1
            )
        else:
            programs += struct.pack(
                "<IIIIIIII", segment, place + len(body), address, address, size, size, 7, 1
            )
        body += content
    named = {"": b"", **(sections or {})}
    names = b"".join(name.encode() + b"\0" for name in [*named, ".shstrtab"])
    for name, content in [*named.items(), (".shstrtab", names)]:
        kind_of = 0 if not name else 3 if name == ".shstrtab" else 1
        at = names.index(b"\0" + name.encode() + b"\0") + 1 if name else 0
        headers += struct.pack(
            f"<II{long}{long}{long}{long}II{long}{long}",
            *(at, kind_of, 0, 0, place + len(body), len(content), 0, 0, 1, 0),
        )
        body += content
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    header = ident + struct.pack(
        f"<HHI{long}{long}{long}IHHHHHH",
        *(kind, machine, 1, entry, ehsize if segments else 0, place + len(body), 0),
        *(ehsize, phsize, len(segments), shsize, len(named) + 1, len(named)),
    )
    return header + programs + body + headers


def vmlinux(
    release: str = RELEASE, *, machine: int = X86_64, bits: int = 64, entry: int = 0x1000000
) -> bytes:
    """Return a small ELF kernel: one loadable segment with the banner in it."""
    text = f"Linux version {release} (tc@box) (gcc 12) #1 SMP\n".encode()
    content = bytes(range(256)) * 8 + text + b"\0" * 64
    return elf(
        machine=machine,
        bits=bits,
        entry=entry,
        segments=[(PT_LOAD, 0x1000000, content)],
        sections={".init.text": b"\x90" * 16, "__ksymtab": bytes(16)},
    )


def module(release: str = RELEASE, *, machine: int = X86_64, name: str = "loop") -> bytes:
    """Return a kernel module as far as its .modinfo goes."""
    info = f"license=GPL\0alias=block-7\0alias=loop\0name={name}\0vermagic={release} SMP mod_unload \0"
    return elf(machine=machine, kind=ET_REL, sections={".text": b"\x90", ".modinfo": info.encode()})


def shared(
    *needed: str,
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    interpreter: str = "",
    machine: int = X86_64,
    kind: int = ET_DYN,
    bits: int = 64,
    versions: Mapping[str, Sequence[str]] | None = None,
    weak: Sequence[str] = (),
    defines: Sequence[str] = (),
) -> bytes:
    """Return a shared library, or with an interpreter a program, as far as ld.so reads it.

    versions: library -> the versions needed of it; weak: which of them are weak.
    """
    strings, tags = b"\0", []
    needs = definitions = b""
    for number, (library, names) in enumerate((versions or {}).items(), start=1):
        size = 16 * (1 + len(names)) if number < len(versions or {}) else 0
        needs += struct.pack("<HHIII", 1, len(names), len(strings), 16, size)
        strings += library.encode() + b"\0"
        for place, name in enumerate(names, start=1):
            following = 16 if place < len(names) else 0
            needs += struct.pack("<IHHII", 0, 2 if name in weak else 0, 2, len(strings), following)
            strings += name.encode() + b"\0"
    all_names = [soname or "lib", *defines] if defines else []
    for place, name in enumerate(all_names):
        following = 28 if place < len(all_names) - 1 else 0
        definitions += struct.pack("<HHHHIII", 1, int(place == 0), place + 1, 1, 0, 20, following)
        definitions += struct.pack("<II", len(strings), 0)
        strings += name.encode() + b"\0"
    pairs = [(DT_NEEDED, name) for name in needed]
    pairs += [
        (tag, text) for tag, text in ((DT_SONAME, soname), (DT_RPATH, rpath), (DT_RUNPATH, runpath)) if text
    ]
    for tag, text in pairs:
        tags.append((tag, len(strings)))
        strings += text.encode() + b"\0"
    base = 0x400000
    tags += [(DT_STRTAB, base), (DT_STRSZ, len(strings))]
    tags += [(DT_VERNEED, base + len(strings))] if needs else []
    tags += [(DT_VERDEF, base + len(strings + needs))] if definitions else []
    pair = "<QQ" if bits == 64 else "<II"
    segments = [
        (PT_LOAD, base, strings + needs + definitions),
        (PT_DYNAMIC, base + 0x1000, b"".join(struct.pack(pair, *tag) for tag in [*tags, (0, 0)])),
    ]
    if interpreter:
        segments.insert(0, (PT_INTERP, base + 0x2000, interpreter.encode() + b"\0"))
    return elf(kind=kind, machine=machine, bits=bits, segments=segments)


def _sized(packed: bytes, content: bytes) -> bytes:
    return packed + struct.pack("<I", len(content))


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),  # its own last four bytes are the size
    "bzip2": lambda data: _sized(bz2.compress(data), data),
    "lzma": lambda data: _sized(lzma.compress(data, lzma.FORMAT_ALONE), data),
    "xz": lambda data: _sized(lzma.compress(data, check=lzma.CHECK_CRC32), data),
    "zstd": lambda data: _sized(zstandard.ZstdCompressor().compress(data), data),
}


def put(image: bytearray, name: str, value: int) -> None:
    """Write a header field by name."""
    offset, letter = FIELDS[name]
    struct.pack_into("<" + letter, image, offset, value)


def bzimage(
    *,
    version: str = f"{RELEASE} (tc@box) #1 SMP",
    payload: bytes | None = None,
    method: str = "gzip",
    efi: bool = True,
    crc: bool = True,
    bits: int = 64,
    fields: Mapping[str, int] | None = None,
) -> bytes:
    """Return a whole bzImage; `fields` are written last, before the checksum is made.

    payload: what stands in place of a packed `vmlinux()`.
    """
    long = bits == 64
    inside = vmlinux(machine=X86_64 if long else I386, bits=bits)
    packed = PACK[method](inside) if payload is None else payload
    code = bytes(PAYLOAD_OFFSET) + packed
    code += bytes(-(len(code) + 4) % 32)
    image = bytearray(SETUP_SIZE)
    text = version.encode() + b"\0"
    image[0x400 : 0x400 + len(text)] = text
    values = {
        "setup_sects": SETUP_SECTS,
        "syssize": (len(code) + 4) // 16,
        "boot_flag": 0xAA55,
        "jump": 0x6AEB,
        "header": 0x53726448,
        "version": 0x020F,
        "kernel_version": 0x200,
        "loadflags": 1,
        "kernel_alignment": 0x200000,
        "relocatable_kernel": 1,
        "xloadflags": (0x03 if long else 0) | (0 if not efi else 0x08 if long else 0x04),
        "cmdline_size": 2047,
        "payload_offset": PAYLOAD_OFFSET,
        "payload_length": len(packed),
        "pref_address": 0x1000000,
        "init_size": 1 << 20,
        "handover_offset": 0x100 if efi else 0,
    }
    if efi:
        values |= {"mz": 0x5A4D, "pe_start": 0x40, "pe_magic": 0x4550, "pe_entry": SETUP_SIZE + 0x100}
        long_pe = {"pe_machine": 0x8664, "pe_optional_magic": 0x20B, "pe_directories": 6}
        short_pe = {"pe_machine": 0x14C, "pe_optional_magic": 0x10B, "pe_directories_32": 6}
        values |= long_pe if long else short_pe
    for name, value in {**values, **(fields or {})}.items():
        put(image, name, value)
    whole = bytes(image) + code
    # The checksum makes the CRC-32 of the whole 0 by the kernel's reckoning, ~0 by zlib's.
    return whole + struct.pack("<I", zlib.crc32(whole) ^ 0xFFFFFFFF if crc else 0)
