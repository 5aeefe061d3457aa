# SPDX-License-Identifier: MIT
"""The first difference between two builds of one file: the member, and the offset in it.

It opens ISO images, cores, extensions, kernels, modules and disk images.  Of any other file it
reports only the offset.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from tasks.config import architecture
from tasks.formats import bzimage, initramfs_file, iso9660, squashfs
from tasks.formats.bzimage import read_header
from tasks.formats.cpio import Member
from tasks.image import disk, grub
from tasks.util.errors import UserError
from tasks.util.files import CHUNK

ATTRIBUTES = ("mode", "uid", "gid", "nlink", "mtime", "rdevmajor", "rdevminor")


def difference(one: Path, other: Path) -> str:
    """Return the first difference of two files, "" for equal files: MEMBER, then SECTION or OFFSET."""
    offset = first_offset(one, other)
    if offset is None:
        return ""
    plain = f"byte {offset:,}" + _size_text(one.stat().st_size, other.stat().st_size)
    try:
        inside = _comparison(one)(one, other, offset)
    except UserError as error:  # one of them may be damaged
        inside = f"cannot be read: {error.message}"
    return f"{plain}: {inside}" if inside else plain


def first_offset(one: Path, other: Path) -> int | None:
    """Return the offset of the first byte that differs, None for equal files."""
    offset = 0
    with one.open("rb") as left, other.open("rb") as right:
        while True:
            a, b = left.read(CHUNK), right.read(CHUNK)
            if a != b:
                return offset + _first_difference(a, b)
            if not a:
                return None
            offset += len(a)


def _first_difference(a: bytes, b: bytes) -> int:
    """Return the offset of the first difference of two different byte strings."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle)
    return low


def _size_text(a: int, b: int) -> str:
    return "" if a == b else f" ({a:,} and {b:,} bytes long)"


def _comparison(path: Path) -> Callable[[Path, Path, int], str]:
    """Return the function that compares files with the name of `path`."""
    kinds = {".iso": _iso, ".tcz": _squashfs, ".gz": _core, ".ko": _elf_files}
    if path.name in (one.files.kernel for one in architecture.every()):
        return _kernel
    if path.suffix == ".img" and path.name.startswith("tcbuild-"):  # not the ISO's efi.img
        return _disk
    return kinds.get(path.suffix, lambda one, other, offset: "")


def _missing_name(names: tuple[Mapping[str, Any], Mapping[str, Any]]) -> str:
    """Return a name that only one of the two mappings has, as text; "" if there is none."""
    for mine, yours, which in ((*names, "first"), (*reversed(names), "second")):
        lone = sorted(mine.keys() - yours.keys())
        if lone:
            return f"only the {which} build has {lone[0]!r}"
    return ""


def _iso(one: Path, other: Path, offset: int) -> str:
    a, b = iso9660.extents(one), iso9660.extents(other)
    found = _missing_name((a, b))
    for name in sorted(a.keys() & b.keys(), key=lambda name: a[name].offset):
        left, right = iso9660.content(one, a[name]), iso9660.content(other, b[name])
        if left != right:
            return f"{name}: {_compare_contents(Path(name).name, left, right)}"
    return found or "outside of all files, in the image's own tables"


def _compare_contents(name: str, left: bytes, right: bytes) -> str:
    """Compare two files in memory as files on disk with the name `name`."""
    with tempfile.TemporaryDirectory(prefix="tcbuild-compare-") as folder:
        paths = [Path(folder, which, name) for which in "ab"]
        for path, content in zip(paths, (left, right), strict=True):
            path.parent.mkdir()
            path.write_bytes(content)
        return difference(*paths)


def _core(one: Path, other: Path, offset: int) -> str:
    lists = [initramfs_file.read_core(path) for path in (one, other)]
    for number, (a, b) in enumerate(zip(*lists, strict=False), start=1):
        if a.method != b.method:
            return f"archive {number}: compressed by {a.method} and by {b.method}"
        found = _members(a.members, b.members)
        if found:
            return f"archive {number}: {found}"
    if len(lists[0]) != len(lists[1]):
        return f"{len(lists[0])} and {len(lists[1])} archives"
    return "all members are the same, but they are compressed differently"


def _squashfs(one: Path, other: Path, offset: int) -> str:
    found = _members(squashfs.squashfs_members(one), squashfs.squashfs_members(other))
    return found or "all members are the same, but the image's own tables differ"


def _members(a: Any, b: Any) -> str:
    """Return the first difference between two lists of archive members."""
    found = _missing_name(({m.name: m for m in a}, {m.name: m for m in b}))
    if found:
        return found
    for left, right in zip(a, b, strict=True):
        if left.name != right.name:
            return f"another order: {left.name!r} and {right.name!r} at the same place"
        text = _member(left, right)
        if text:
            return f"{left.name}: {text}"
    return ""


def _member(left: Member, right: Member) -> str:
    if left.data != right.data:
        if left.data.startswith(b"\x7fELF"):
            return _elf(left.data, right.data)
        sizes = _size_text(len(left.data), len(right.data))
        return f"byte {_first_difference(left.data, right.data):,}{sizes}"
    for name in ATTRIBUTES:
        values = getattr(left, name), getattr(right, name)
        if values[0] != values[1]:
            form = oct if name == "mode" else str
            return f"{name} {form(values[0])} and {form(values[1])}"
    return ""


def _kernel(one: Path, other: Path, offset: int) -> str:
    """Return which section of the vmlinux inside differs, or that only the code around it does."""
    unpacked = []
    for path in (one, other):
        data = memoryview(path.read_bytes())
        unpacked.append(bzimage.payload(data, read_header(bytes(data[: bzimage.HEAD])))[1])
    if unpacked[0] != unpacked[1]:
        return f"vmlinux inside: {_elf(*unpacked)}"
    return "the vmlinux inside is the same, but the code around it differs"


def _elf_files(one: Path, other: Path, offset: int) -> str:
    return _elf(one.read_bytes(), other.read_bytes())


def _elf(left: bytes, right: bytes) -> str:
    """Return the first section of two ELF files that differs, and the offset in it."""
    offset = _first_difference(left, right)
    plain = f"byte {offset:,}{_size_text(len(left), len(right))}"
    try:
        pairs = [
            {
                section.name: (section["sh_offset"], section.data())
                for section in ELFFile(io.BytesIO(data)).iter_sections()
            }
            for data in (left, right)
        ]
    except Exception as error:  # pyelftools raises many types of exceptions for damaged files
        return f"{plain} ({type(error).__name__} in it)"
    names = _missing_name((pairs[0], pairs[1]))
    for name, (_, content) in sorted(pairs[0].items(), key=lambda item: item[1][0]):
        if name in pairs[1] and content != pairs[1][name][1]:
            at = _first_difference(content, pairs[1][name][1])
            return f"section {name or '(none)'}, byte {at:,} of it ({plain})"
    return f"{names or 'its headers'} ({plain})"


def _disk(one: Path, other: Path, offset: int) -> str:
    efi = disk.FIRST_PARTITION * grub.SECTOR
    ext3 = efi + disk.EFI_SECTORS * grub.SECTOR
    if offset < efi:
        return "in the partition table or GRUB's core image"
    if offset < ext3:
        return f"in the EFI partition, byte {offset - efi:,} of it"
    return f"in the ext3 partition, byte {offset - ext3:,} of it"
