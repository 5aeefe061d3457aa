"""Squashfs images, read by sqfs2tar: the same with and without root."""

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
    """Return everything in a squashfs image, owners, modes, devices and hard links as stored.

    sqfs2tar (package squashfs-tools-ng) reads the image and never touches the file
    system, so this is the same with and without root.  The root folder itself is left out.

    Raises `UserError` for a damaged image, a socket, or file capabilities and other
    `security.` attributes, which a cpio archive cannot hold.
    """
    if not squashfs.is_file():
        raise UserError(f"{squashfs} does not exist", "build the extensions first: `doit tcz`")
    with squashfs_tar(squashfs) as tar:
        return _from_tar(tar, squashfs)


@contextmanager
def squashfs_tar(squashfs: Path) -> Iterator[tarfile.TarFile]:
    """Yield a squashfs image as a tar archive, written for as long as the context lasts.

    Raises `UserError` if the image is damaged, holds a socket, or unpacks to far too much.
    """
    size = squashfs.stat().st_size
    with tempfile.TemporaryDirectory(prefix="tcbuild-tcz-") as folder:
        packed = Path(folder, "extension.tar")
        try:
            # The kernel stops the program at that size: no bomb fills the disk.
            run(
                [
                    "prlimit",
                    f"--fsize={unpack_limits.most(size)}",
                    require_tool("sqfs2tar"),
                    "--no-skip",
                    squashfs,
                ],
                stdout=packed,
                hint=f"{squashfs.name} must be a whole squashfs file without sockets; make or fetch it again",
            )
        except UserError as error:
            if packed.is_file() and packed.stat().st_size >= unpack_limits.most(size):
                raise _bomb(squashfs, size, packed) from None
            message = error.message.replace("prlimit", "sqfs2tar", 1)
            raise type(error)(message, error.hint, error.detail) from None
        with tarfile.open(packed, encoding="utf-8", errors="surrogateescape") as tar:
            yield tar


def _bomb(squashfs: Path, size: int, packed: Path) -> UserError:
    """Return the error for an image of `size` bytes that was cut off while it was written to `packed`."""
    last = ""
    with suppress(tarfile.TarError), tarfile.open(packed, errors="surrogateescape") as tar:
        for entry in tar:
            last = entry.name
    message = (
        f"{squashfs.name}: with {last!r} it unpacks to more than the {unpack_limits.most(size):,} bytes "
    )
    return UserError(f"{message}that a squashfs image of {size:,} may have", "it is not one to trust")


def _from_tar(tar: tarfile.TarFile, squashfs: Path) -> list[Member]:
    members: dict[str, Member] = {}
    links: dict[str, list[str]] = {}
    for entry in tar:
        held = [key for key in entry.pax_headers if key.startswith(XATTR + "security.")]
        if held:
            raise UserError(
                f"{squashfs.name}: {entry.name!r} has the attribute {held[0].removeprefix(XATTR)}, "
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
