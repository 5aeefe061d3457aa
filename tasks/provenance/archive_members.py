# SPDX-License-Identifier: MIT
"""Lists of the members of archives, as a manifest has them."""

from __future__ import annotations

import hashlib
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.formats import cpio, initramfs_file
from tasks.formats.squashfs import KINDS, XATTR
from tasks.provenance.manifest_schema import ArchiveMember, CoreArchive
from tasks.util.errors import DiskFull, UserError
from tasks.util.files import CHUNK
from tasks.util.process import run

UNPACKED = 8 << 30  # bytes; larger than any extension, small enough to stop a decompression bomb


def of_core(path: Path) -> tuple[CoreArchive, ...]:
    """Return the archives of a core file, each with its members in order.

    Raises `UserError` as `initramfs_file.read_core` does.
    """
    return tuple(
        CoreArchive(archive.method, tuple(_member(member) for member in archive.members))
        for archive in initramfs_file.read_core(path)
    )


def _member(member: cpio.Member) -> ArchiveMember:
    is_file, is_link = member.kind == stat.S_IFREG, member.kind == stat.S_IFLNK
    is_device = member.kind in (stat.S_IFCHR, stat.S_IFBLK)
    return ArchiveMember(
        path=member.name,
        mode=stat.filemode(member.mode),
        owner=f"{member.uid}:{member.gid}",
        mtime=member.mtime,
        size=len(member.data) if is_file else 0,
        sha256=hashlib.sha256(member.data).hexdigest() if is_file else "",
        target=cpio.decode(member.data) if is_link else "",
        device=f"{member.rdevmajor}:{member.rdevminor}" if is_device else "",
    )


def of_squashfs(path: Path, limit: int = UNPACKED) -> tuple[ArchiveMember, ...]:
    """Return the members of a squashfs image, sorted by path, without unpacking them as files.

    Raises `UserError` if the image is damaged, has sockets, or holds more than `limit` bytes.
    """
    with tempfile.TemporaryDirectory(prefix="tcbuild-tcz-") as folder:
        packed = Path(folder, "extension.tar")
        hint = (
            f"{path.name} must be a whole squashfs file without sockets, of at most {limit:,} bytes unpacked"
        )
        try:
            run(["prlimit", f"--fsize={limit}", "sqfs2tar", "--no-skip", path], stdout=packed, hint=hint)
        except DiskFull as error:
            if packed.stat().st_size < limit:
                raise
            message = f"{path}: sqfs2tar was stopped: it unpacks to more than {limit:,} bytes"
            raise UserError(message, hint, error.detail) from None
        try:
            with tarfile.open(packed, encoding="utf-8", errors="surrogateescape") as tar:
                return tuple(sorted(_entries(tar), key=lambda part: cpio.by_path(part.path)))
        except tarfile.TarError as error:
            raise UserError(f"{path}: sqfs2tar's output cannot be read: {error}") from None


def _entries(tar: tarfile.TarFile) -> Iterator[ArchiveMember]:
    for entry in tar:
        is_hard = entry.type == tarfile.LNKTYPE
        kind = KINDS.get(tarfile.REGTYPE if entry.isreg() or is_hard else entry.type, 0)
        mode = stat.filemode(kind | stat.S_IMODE(entry.mode))
        size, digest = _content(tar, entry) if entry.isreg() else (0, "")
        yield ArchiveMember(
            path=entry.name,
            mode="h" + mode[1:] if is_hard else mode,
            owner=f"{entry.uid}:{entry.gid}",
            mtime=int(entry.mtime),
            size=size,
            sha256=digest,
            target=entry.linkname,
            device=f"{entry.devmajor}:{entry.devminor}" if entry.isdev() and not entry.isfifo() else "",
            xattrs={
                key.removeprefix(XATTR): hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
                for key, value in sorted(entry.pax_headers.items())
                if key.startswith(XATTR)
            },
        )


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    stream = tar.extractfile(entry)
    assert stream is not None
    while block := stream.read(CHUNK):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()
