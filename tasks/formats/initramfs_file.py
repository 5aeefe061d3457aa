# SPDX-License-Identifier: MIT
"""Read a core file: its archives, and the file system that the kernel unpacks from them.

`corepure64.gz` is `rootfs64.gz` followed by `modules64.gz`.  Each archive has its own
compression, and zero bytes may lie between them (kernel Documentation,
driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.formats import compression, cpio, magic, unpack_limits
from tasks.formats.cpio import Member
from tasks.formats.initramfs_unpacker import RootFs
from tasks.util.errors import UserError

# Where the kernel looks in the plain archives at the very beginning, before it unpacks any:
# Documentation/arch/x86/microcode.rst and Documentation/admin-guide/acpi/initrd_table_override.rst.
EARLY = "kernel"
MICROCODE = ("kernel/x86/microcode/", "kernel/firmware/acpi/")
EARLY_MARK = "early_cpio"  # dracut puts this file into such an archive
ALIGNMENT = 4  # init/initramfs.c: a plain archive starts at a multiple of 4 bytes


@dataclass(frozen=True)
class Archive:
    """One cpio archive of a core file; `method` is its compression as in `compression.detect`."""

    method: str
    members: tuple[Member, ...]


def read_core(path: Path) -> list[Archive]:
    """Return the archives of a core.gz, in order.

    Accepts the same as unpack_to_rootfs() of init/initramfs.c: plain and compressed archives,
    several archives in one stream, zero bytes between archives.  Raises `UserError` with the
    file's name for truncated, corrupt or misplaced data, and for data after the last archive.
    """
    return [archive for _, archives in streams(path) for archive in archives]


def streams(path: Path) -> list[tuple[bytes, list[Archive]]]:
    """Return the stored bytes of each stream of a core file, and the archives in it."""
    data = path.read_bytes()
    try:
        return [(data[start:end], archives) for start, end, archives in _parse_streams(memoryview(data))]
    except UserError as error:
        kind = None if compression.detect(data) != "plain" else magic.classify(data[: magic.HEAD_BYTES])
        if kind is not None and not kind.kind.startswith("cpio"):
            raise UserError(f"{path}: it is {kind.description}, not a core", kind.hint) from None
        raise UserError(f"{path}: {error.message}", error.hint, error.detail) from None


def _parse_streams(data: memoryview) -> list[tuple[int, int, list[Archive]]]:
    """Return (start, end, archives) of each stream; a plain archive counts as a stream."""
    found: list[tuple[int, int, list[Archive]]] = []
    # One limit for all streams, because many small bombs are a bomb, too.
    left = min(compression.LIMIT, unpack_limits.max_unpacked_bytes(len(data)))
    offset = _skip_zeros(data, 0)
    while offset < len(data):
        is_plain = data[offset] == ord("0") or bytes(data[offset : offset + 2]) in cpio.OLD_BINARY
        method = "plain" if is_plain else compression.detect(data, offset)
        # After a plain archive the kernel reports "broken padding" for any misaligned data.
        after_plain = bool(found) and found[-1][2][-1].method == "plain"
        if offset % ALIGNMENT and (is_plain or after_plain):
            number = sum(len(inside) for _, _, inside in found) + 1
            raise UserError(
                f"archive {number} starts at offset {offset}, which is no multiple of {ALIGNMENT}"
            )
        if is_plain:
            members, end = cpio.read(data, offset)
            inside = [Archive(method, tuple(members))]
        else:
            content, end = compression.decompress_one(data, offset, left)
            left -= len(content)
            inside = _archives_in_stream(memoryview(content), method, offset)
        found.append((offset, end, inside))
        offset = _skip_zeros(data, end)
    if not found:
        raise UserError(
            "the file has no cpio archive", "the file is empty or damaged; make or fetch it again"
        )
    return found


def _archives_in_stream(data: memoryview, method: str, start: int) -> list[Archive]:
    """Return the archives inside one compressed stream."""
    found: list[Archive] = []
    offset = 0
    while offset < len(data):
        if offset % ALIGNMENT:
            raise UserError(f"junk in the {method} stream at offset {start}, at {offset} of its content")
        members, offset = cpio.read(data, offset)
        found.append(Archive(method, tuple(members)))
        offset = _skip_zeros(data, offset)
    if not found:
        raise UserError(f"the {method} stream at offset {start} holds no cpio archive")
    return found


def _skip_zeros(data: memoryview, offset: int) -> int:
    while offset < len(data):
        block = bytes(data[offset : offset + 4096])
        rest = block.lstrip(b"\0")
        if rest:
            return offset + len(block) - len(rest)
        offset += len(block)
    return offset


def unpacked(archives: Iterable[Archive]) -> RootFs:
    """Return the file system that the kernel unpacks from `archives`, later over earlier ones."""
    root = RootFs()
    for archive in archives:
        root.unpack(archive.members)
    return root


def merged(archives: Iterable[Archive]) -> dict[str, Member]:
    """Return the members of `unpacked(archives)` by name, sorted by path."""
    return unpacked(archives).members()


def is_early(archive: Archive) -> bool:
    """Return whether an archive has only `kernel/` in it, such as microcode."""
    files = [member.name for member in archive.members if member.kind != stat.S_IFDIR]
    return any(name.startswith(f"{EARLY}/") for name in files) and all(
        member.name in (".", EARLY, EARLY_MARK) or member.name.startswith(f"{EARLY}/")
        for member in archive.members
    )


def has_microcode(archive: Archive) -> bool:
    """Return whether an archive has a file where the kernel looks for microcode or ACPI tables."""
    return any(member.name.startswith(MICROCODE) for member in archive.members if member.kind != stat.S_IFDIR)


def list_core(path: Path) -> None:
    """Print the members of each archive of a core file as `cpio -tv` does.

    Raises `UserError` at the end if the kernel would not find the microcode in one of them.
    """
    all_plain = True
    lost = []
    for number, archive in enumerate(read_core(path), start=1):
        all_plain = all_plain and archive.method == "plain"
        early = is_early(archive) or has_microcode(archive)
        mark = ", read first (microcode)" if early and all_plain else ""
        print(f"# archive {number}: {archive.method}, {len(archive.members)} members{mark}")
        if early and not all_plain:
            lost.append(str(number))
        for member in archive.members:
            print(listing_line(member))
    if lost:
        raise UserError(
            f"{path}: archive {', '.join(lost)} has microcode, which the kernel does not find there",
            "it finds microcode only in plain archives that come before all compressed ones",
        )


def listing_line(member: Member) -> str:
    """Return one line: mode, links, numeric owner, size or device, date, name and link target."""
    is_device = member.kind in (stat.S_IFCHR, stat.S_IFBLK)
    size = f"{member.rdevmajor}, {member.rdevminor}" if is_device else str(len(member.data))
    day = time.strftime("%Y-%m-%d", time.gmtime(member.mtime))
    name = _escaped(member.name)
    if member.kind == stat.S_IFLNK:
        name += f" -> {_escaped(cpio.decode(member.data))}"
    owner = f"{member.uid:>5} {member.gid:>5}"
    return f"{stat.filemode(member.mode)} {member.nlink:>3} {owner} {size:>9} {day} {name}"


def _escaped(name: str) -> str:
    """Escape the characters of a name that a terminal cannot print."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)
