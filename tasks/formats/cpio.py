# SPDX-License-Identifier: MIT
"""Read and write cpio archives as the kernel unpacks them.

Formats are "newc" (070701) and, only for reading, "crc" (070702).  The kernel's
Documentation/driver-api/early-userspace/buffer-format.rst specifies them; init/initramfs.c
decides what it leaves open.  An archive is a series of members.  A member is a 110-byte header
of ASCII hexadecimal fields, a NUL-terminated name, and data; name and data are padded to four
bytes.  A member named TRAILER!!! ends the archive.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

from tasks.util.errors import UserError

NEWC, CRC, ODC = b"070701", b"070702", b"070707"
OLD_BINARY = (b"\xc7\x71", b"\x71\xc7")  # 0o070707 as a 16-bit word, in both byte orders
HEADER = 110
FIELDS = re.compile(rb"[0-9A-Fa-f]{104}")
TRAILER = "TRAILER!!!"
BLOCK = 512
PATH_MAX = 4096  # init/initramfs.c silently skips longer names and symlink targets
NAME_MAX = 255
MAX_FIELD = 0xFFFFFFFF
NEWC_HINT = "make it with `cpio -o -H newc`, the format the kernel reads"
LinkKey = tuple[int, int, int, int]
TYPES = (
    *(stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR),
    *(stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK),
)


@dataclass(frozen=True)
class Member:
    """One member of an archive.

    name: path below `/`, without a leading `/` or `./`; "." is the root folder itself.
        Bytes that are not UTF-8 become surrogates (surrogateescape).
    mode: st_mode, file type included.  mtime: seconds since 1970.
    data: a regular file's content or a symlink's target.
    nlink, ino, devmajor, devminor: members with nlink > 1 that are equal in the other three
        are names of one file; folders and symlinks are not.  In an archive only one of
        them needs to hold the data; `share_links` copies it to all.
    """

    name: str
    mode: int
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    mtime: int = 0
    data: bytes = b""
    rdevmajor: int = 0
    rdevminor: int = 0
    ino: int = 0
    devmajor: int = 0
    devminor: int = 0

    @property
    def kind(self) -> int:
        """The file type: stat.S_IFREG, S_IFDIR, ..."""
        return stat.S_IFMT(self.mode)

    @property
    def link_key(self) -> LinkKey | None:
        """A key that the names of one hard-linked file share; None for any other member."""
        # initramfs.c does not link symlinks, and folders have no hard links.
        if self.nlink < 2 or self.kind in (stat.S_IFDIR, stat.S_IFLNK):
            return None
        return self.devmajor, self.devminor, self.ino, self.kind


def directory(name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Member:
    """Return a folder."""
    return Member(name, stat.S_IFDIR | mode, uid, gid, nlink=2)


def regular(name: str, data: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Member:
    """Return a regular file."""
    return Member(name, stat.S_IFREG | mode, uid, gid, data=data)


def symlink(name: str, target: str, uid: int = 0, gid: int = 0) -> Member:
    """Return a symbolic link."""
    return Member(name, stat.S_IFLNK | 0o777, uid, gid, data=encode(target))


def device(
    name: str, kind: Literal["c", "b"], major: int, minor: int, mode: int = 0o600, uid: int = 0, gid: int = 0
) -> Member:
    """Return a character ("c") or block ("b") device node."""
    file_type = {"c": stat.S_IFCHR, "b": stat.S_IFBLK}[kind]
    return Member(name, file_type | mode, uid, gid, rdevmajor=major, rdevminor=minor)


def hard_links(member: Member, names: Sequence[str], ino: int) -> list[Member]:
    """Return `member` under each of `names`, as one file; no other file may have `ino`."""
    return [replace(member, name=name, nlink=len(names), ino=ino) for name in names]


def encode(name: str) -> bytes:
    """Return a name as the bytes of an archive."""
    return name.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    """Return bytes from an archive as a name."""
    return name.decode("utf-8", "surrogateescape")


def by_path(name: str) -> tuple[bytes, ...]:
    """Return a sort key for names: "." is first, and a folder precedes its content."""
    return () if name == "." else tuple(encode(name).split(b"/"))


def read(data: memoryview, offset: int = 0) -> tuple[list[Member], int]:
    """Read the one archive at `offset`; return its members in order and the offset after it.

    Hard-linked members are returned as stored, often with the data in only one of them (see
    `share_links`).  Raises `UserError` naming member and offset for another format, a bad
    header, a truncated file, a wrong checksum, or a missing TRAILER!!!.
    """
    members: list[Member] = []
    last = ""
    while True:
        member, offset = _read_member(data, offset, last)
        if member is None:
            return members, offset
        members.append(member)
        last = member.name


def _read_member(data: memoryview, offset: int, last: str) -> tuple[Member | None, int]:
    """Return the member at `offset`, None for the trailer, and the offset of the next member."""
    if offset >= len(data):
        after = f"after {last!r}" if last else "before its first member"
        raise UserError(
            f"cpio archive ends at offset {len(data)}, {after}, without its {TRAILER} member",
            "the file is incomplete; make or fetch it again",
        )
    _check_magic(data, offset, last)
    head = bytes(data[offset : offset + HEADER])
    if len(head) < HEADER:
        _refuse_truncated(data, f"the header at offset {offset}", offset + HEADER, last)
    if not FIELDS.fullmatch(head, 6):
        _refuse_member(_after(last), offset, f"header is not hexadecimal: {head[6:]!r}")
    numbers = [int(head[start : start + 8], 16) for start in range(6, HEADER, 8)]
    ino, mode, uid, gid, nlink, mtime, size, major, minor, rmajor, rminor, name_size, check = numbers
    if not 0 < name_size <= PATH_MAX:
        _refuse_member(_after(last), offset, f"name of {name_size} bytes; the kernel takes 1 to {PATH_MAX}")
    name_end = offset + HEADER + name_size
    body = _padded(name_end)
    if body > len(data):
        _refuse_truncated(data, f"the name of the member at offset {offset}", body, last)
    raw = bytes(data[offset + HEADER : name_end])
    if raw[-1]:
        _refuse_member(_after(last), offset, f"name {raw!r} does not end with a NUL byte")
    # Some programs pad names with several NULs to align the data; a C string ends at the first.
    raw = raw.split(b"\0", 1)[0]
    if raw == TRAILER.encode():
        if size:
            _refuse_member(_after(last), offset, f"{TRAILER} with {size} bytes of data")
        return None, body
    name = _clean_name(raw, offset)
    content = bytes(data[body : body + size])
    if len(content) < size:
        _refuse_truncated(data, f"the data of {name!r} (header at offset {offset})", body + size, last)
    member = Member(name, mode, uid, gid, nlink, mtime, content, rmajor, rminor, ino, major, minor)
    checksum = check if head.startswith(CRC) else None
    return _checked(member, offset, checksum), min(_padded(body + size), len(data))


def _checked(member: Member, offset: int, checksum: int | None) -> Member:
    """Return `member` without padding of a symlink's target; refuse what the kernel would drop."""
    if member.kind not in TYPES:
        _refuse_member(f" {member.name!r}", offset, f"mode {member.mode:o} has no known file type")
    if member.kind == stat.S_IFLNK:
        # gen_init_cpio ends the target with a NUL, GNU cpio does not.
        return replace(member, data=member.data.split(b"\0", 1)[0])
    if member.kind != stat.S_IFREG and member.data:
        _refuse_member(
            f" {member.name!r}", offset, f"has {len(member.data)} bytes of data but is no regular file"
        )
    total = sum(member.data) & MAX_FIELD if checksum is not None and member.data else checksum
    if total != checksum:
        _refuse_member(f" {member.name!r}", offset, f"checksum {total:08x}, header says {checksum:08x}")
    return member


def _check_magic(data: memoryview, offset: int, last: str) -> None:
    magic = bytes(data[offset : offset + 6])
    if magic in (NEWC, CRC):
        return
    if len(magic) < 6 and (NEWC.startswith(magic) or CRC.startswith(magic)):
        _refuse_truncated(data, f"the header at offset {offset}", offset + HEADER, last)
    if magic == ODC:
        raise UserError(f"cpio archive at offset {offset} is in the old portable (odc) format", NEWC_HINT)
    if magic[:2] in OLD_BINARY:
        raise UserError(f"cpio archive at offset {offset} is in the old binary format", NEWC_HINT)
    _refuse_member(_after(last), offset, f"no cpio header: found {magic!r}")


def _clean_name(raw: bytes, offset: int) -> str:
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        _refuse_member(f" {decode(raw)!r}", offset, "'..' in a name is refused")
    if not raw:
        _refuse_member("", offset, "empty name")
    return decode(b"/".join(parts)) or "."


def _padded(offset: int, size: int = 4) -> int:
    return -(-offset // size) * size


def _refuse_member(member: str, offset: int, what: str) -> NoReturn:
    raise UserError(
        f"cpio member{member} at offset {offset}: {what}", "the file is damaged; make or fetch it again"
    )


def _after(last: str) -> str:
    return f" (after {last!r})" if last else ""


def _refuse_truncated(data: memoryview, what: str, needed: int, last: str) -> NoReturn:
    raise UserError(
        f"cpio archive is cut off in {what}{_after(last)}: it needs {needed} bytes, there are {len(data)}",
        "the file is incomplete; make or fetch it again",
    )


def share_links(members: Sequence[Member]) -> list[Member]:
    """Return `members`; all names of a hard-linked file get the file's final content and mode.

    As in init/initramfs.c, a later name with data overwrites the file, and a later name of a
    regular file sets its owner and mode again.  A device keeps the values of its first name.
    """
    final: dict[LinkKey, Member] = {}
    for member in members:
        key = member.link_key
        if key is None:
            continue
        first = final.get(key)
        if first is None:
            final[key] = member
        elif member.kind == stat.S_IFREG:
            final[key] = replace(member, data=member.data or first.data)
    return [
        member if member.link_key is None else replace(final[member.link_key], name=member.name)
        for member in members
    ]


def write(members: Iterable[Member], *, mtime: int | None, in_order: bool = False) -> bytes:
    """Return one newc archive of `members`, padded to 512 bytes.

    The format is not crc, because kernels such as 5.4 do not read it.  in_order: keep the
    order of `members`; otherwise they are sorted by path, so that a folder precedes its
    content.  mtime: the time of every member; None keeps the members' own times.  Inode
    numbers count from 1, and nlink is the number of names in this archive.  The data of a
    hard-linked file is stored at its last name, as GNU cpio writes and expects it; the kernel
    accepts it at any name.  Where names of one file differ, `share_links` decides.

    Raises `UserError` for a duplicate name, and for a member that the kernel would skip.
    """
    ordered = share_links(list(members))
    if not in_order:
        ordered.sort(key=lambda member: by_path(member.name))
    names: dict[LinkKey, list[str]] = {}
    for name, times in Counter(member.name for member in ordered).items():
        if times > 1:
            raise UserError(f"cpio: {name!r} is given twice")
    for member in ordered:
        _check_writable(member)
        if member.link_key is not None:
            names.setdefault(member.link_key, []).append(member.name)
    out = bytearray()
    inodes: dict[LinkKey, int] = {}
    count = 0
    for member in ordered:
        key = member.link_key
        group = [member.name] if key is None else names[key]
        if key is None or key not in inodes:
            count += 1
        ino = count if key is None else inodes.setdefault(key, count)
        nlink = 2 if member.kind == stat.S_IFDIR else len(group)
        data = member.data if member.name == group[-1] else b""
        time = member.mtime if mtime is None else mtime
        _append_member(out, replace(member, ino=ino, nlink=nlink, data=data, mtime=time))
    _append_member(out, Member(TRAILER, 0))
    return bytes(out.ljust(_padded(len(out), BLOCK), b"\0"))


def _append_member(out: bytearray, member: Member) -> None:
    name = encode(member.name) + b"\0"
    fields = (
        *(member.ino, member.mode, member.uid, member.gid, member.nlink, member.mtime),
        # Inodes are renumbered, so the device number of the file system has no meaning.
        *(len(member.data), 0, 0, member.rdevmajor, member.rdevminor, len(name), 0),
    )
    if not all(0 <= field <= MAX_FIELD for field in fields):
        raise UserError(f"cpio: {member.name!r}: a number does not fit into 32 bits: {fields}")
    out += NEWC + b"".join(b"%08X" % field for field in fields) + name
    out += bytes(-len(out) % 4) + member.data
    out += bytes(-len(out) % 4)


def _check_writable(member: Member) -> None:
    name = encode(member.name)
    parts = name.split(b"/")
    problem = ""
    if member.name == TRAILER:
        problem = "this name ends an archive"
    elif b"\0" in name or len(name) >= PATH_MAX or any(len(part) > NAME_MAX for part in parts):
        problem = f"names have at most {PATH_MAX - 1} bytes, {NAME_MAX} between slashes, and no NUL"
    elif name != b"." and any(part in (b"", b".", b"..") for part in parts):
        problem = "names are relative to / and have no '.', '..' or empty part"
    elif member.kind not in TYPES:
        problem = f"mode {member.mode:o} has no file type"
    elif member.name == "." and member.kind != stat.S_IFDIR:
        problem = "the root must be a folder"
    elif member.kind == stat.S_IFLNK and (not 0 < len(member.data) < PATH_MAX or b"\0" in member.data):
        problem = f"a symlink's target has 1 to {PATH_MAX - 1} bytes and no NUL"
    elif member.kind not in (stat.S_IFREG, stat.S_IFLNK) and member.data:
        problem = "only regular files and symlinks have data"
    elif len(member.data) > MAX_FIELD:
        problem = "cpio holds files below 4 GiB only"
    if problem:
        raise UserError(f"cpio: {member.name!r} cannot be stored: {problem}")


def scan_folder(
    root: Path,
    *,
    owner: tuple[int, int] = (0, 0),
    special: Mapping[str, tuple[int, int, int]] | None = None,
    exact_modes: bool = False,
) -> list[Member]:
    """Return everything below `root` (not `root` itself), sorted by path, with mtime 0.

    owner: (uid, gid) of all members.  exact_modes: keep the permissions on disk; otherwise
    they are 0755 for folders and executable files and 0644 for other files, so that they do
    not depend on the umask of the checkout.  special: {path: (permissions, uid, gid)} for
    single paths.  Hard links within the folder stay hard links, except for special paths.

    Raises `UserError` for a special path that does not exist, and for devices and sockets:
    the result must not depend on root rights, so device nodes come from `device`.
    """
    special = special or {}
    inodes: dict[tuple[int, int], int] = {}
    members: list[Member] = []
    for path, status in _walk(os.fsencode(root), b""):
        name = decode(path)
        full = os.path.join(os.fsencode(root), path)
        permissions, uid, gid = special.get(name, (_permissions(status, exact_modes), *owner))
        member = Member(name, stat.S_IFMT(status.st_mode) | permissions, uid, gid)
        if stat.S_ISDIR(status.st_mode):
            member = replace(member, nlink=2)
        elif stat.S_ISLNK(status.st_mode):
            member = replace(member, data=os.readlink(full))
        elif stat.S_ISREG(status.st_mode):
            member = replace(member, data=Path(os.fsdecode(full)).read_bytes())
        elif not stat.S_ISFIFO(status.st_mode):
            raise UserError(f"{os.fsdecode(full)}: device nodes and sockets cannot be taken from a folder")
        if status.st_nlink > 1 and member.kind == stat.S_IFREG and name not in special:
            ino = inodes.setdefault((status.st_dev, status.st_ino), len(inodes) + 1)
            member = replace(member, nlink=2, ino=ino)
        members.append(member)
    names = Counter(member.link_key for member in members)
    # Names outside the folder and special names do not count as links.
    for number, member in enumerate(members):
        if member.link_key is not None:
            count = names[member.link_key]
            members[number] = replace(member, nlink=count, ino=member.ino if count > 1 else 0)
    missing = special.keys() - {member.name for member in members}
    if missing:
        raise UserError(f"{root}: special modes are set for missing paths: {', '.join(sorted(missing))}")
    return members


def _permissions(status: os.stat_result, exact: bool) -> int:
    if stat.S_ISLNK(status.st_mode):
        return 0o777
    if exact:
        return stat.S_IMODE(status.st_mode)
    return 0o755 if stat.S_ISDIR(status.st_mode) or status.st_mode & stat.S_IXUSR else 0o644


def _walk(root: bytes, below: bytes) -> Iterable[tuple[bytes, os.stat_result]]:
    with os.scandir(os.path.join(root, below)) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = os.path.join(below, entry.name)
        yield path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, path)
