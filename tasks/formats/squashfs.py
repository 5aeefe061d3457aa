# SPDX-License-Identifier: MIT
"""Read squashfs images with sqfs2tar, which needs no root."""

from __future__ import annotations

import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.formats import cpio, unpack_limits
from tasks.formats.cpio import Member
from tasks.util.errors import UserError
from tasks.util.process import require_tool, run

XATTR = "SCHILY.xattr."

KINDS = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


def squashfs_members(squashfs: Path) -> list[Member]:
    """Return all members of a squashfs image, with stored owners, modes, devices and hard links.

    sqfs2tar (package squashfs-tools-ng) reads the image and writes no files, so the result
    is the same with and without root.  The root folder itself is not included.

    Raises `UserError` for a damaged image, for a socket, and for file capabilities and other
    `security.` attributes, because a cpio archive cannot hold them.
    """
    if not squashfs.is_file():
        raise UserError(f"{squashfs} does not exist", "build the extensions first: ./doit tcz")
    with squashfs_tar(squashfs) as tar:
        return _from_tar(tar, squashfs)


@contextmanager
def squashfs_tar(squashfs: Path) -> Iterator[tarfile.TarFile]:
    """Yield a squashfs image as a tar archive, a temporary file that the context removes.

    Raises `UserError` if the image is damaged, holds a socket, or unpacks to too much.
    """
    size = squashfs.stat().st_size
    with tempfile.TemporaryDirectory(prefix="tcbuild-tcz-") as folder:
        packed = Path(folder, "extension.tar")
        try:
            # The kernel stops the program at this size, so that a bomb cannot fill the disk.
            run(
                [
                    "prlimit",
                    f"--fsize={unpack_limits.max_unpacked_bytes(size)}",
                    require_tool("sqfs2tar"),
                    "--no-skip",
                    squashfs,
                ],
                stdout=packed,
                hint=f"{squashfs.name} must be a complete squashfs file without sockets; fetch it again",
            )
        except UserError as error:
            if packed.is_file() and packed.stat().st_size >= unpack_limits.max_unpacked_bytes(size):
                raise _limit_error(squashfs, size, packed) from None
            raise error.reworded(error.message.replace("prlimit", "sqfs2tar", 1)) from None
        with tarfile.open(packed, encoding="utf-8", errors="surrogateescape") as tar:
            yield tar


def _limit_error(squashfs: Path, size: int, packed: Path) -> UserError:
    """Return the error for an image of `size` bytes whose tar `packed` reached the limit."""
    last = ""
    with suppress(tarfile.TarError), tarfile.open(packed, errors="surrogateescape") as tar:
        for entry in tar:
            last = entry.name
    limit = unpack_limits.max_unpacked_bytes(size)
    message = f"{squashfs.name}: with {last!r} it unpacks to more than the {limit:,} bytes "
    return UserError(f"{message}that a squashfs image of {size:,} may have", "do not trust this file")


def _from_tar(tar: tarfile.TarFile, squashfs: Path) -> list[Member]:
    members: dict[str, Member] = {}
    links: dict[str, list[str]] = {}
    for entry in tar:
        forbidden = [key for key in entry.pax_headers if key.startswith(XATTR + "security.")]
        if forbidden:
            raise UserError(
                f"{squashfs.name}: {entry.name!r} has the attribute {forbidden[0].removeprefix(XATTR)}, "
                "which an initramfs cannot hold",
                "place this extension onboot instead of initrd",
            )
        if entry.type == tarfile.LNKTYPE:
            links.setdefault(entry.linkname, [entry.linkname]).append(entry.name)
            continue
        content = tar.extractfile(entry) if entry.isreg() else None
        data = content.read() if content else cpio.encode(entry.linkname) if entry.issym() else b""
        kind = KINDS[tarfile.REGTYPE if entry.isreg() else entry.type]
        members[entry.name] = Member(
            name=entry.name,
            mode=kind | stat.S_IMODE(entry.mode),
            uid=entry.uid,
            gid=entry.gid,
            nlink=2 if entry.isdir() else 1,
            mtime=int(entry.mtime),
            data=data,
            rdevmajor=entry.devmajor,
            rdevminor=entry.devminor,
        )
    for number, (name, names) in enumerate(links.items(), start=1):
        members |= {member.name: member for member in cpio.hard_links(members[name], names, number)}
    return sorted(members.values(), key=lambda member: cpio.by_path(member.name))
