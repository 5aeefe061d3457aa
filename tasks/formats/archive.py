# SPDX-License-Identifier: MIT
"""Unpack archives, and write nothing outside the target folder.

A tar archive is read twice.  The first pass reads every member's header (ustar, pax and
GNU: see pax(1) and the GNU tar manual).  It refuses members that could leave the folder, and
archives that unpack to too much (tasks/formats/unpack_limits.py).  In the second pass GNU tar
writes the files: it needs a third of the CPU time of Python's tarfile on a kernel tree.  GNU
tar's own checks stay on as a second guard.
"""

from __future__ import annotations

import errno
import posixpath
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tasks.formats.unpack_limits import MAX_HEADER_TEXT, LimitExceeded, Meter
from tasks.util import jobserver
from tasks.util.errors import DiskFull, UserError
from tasks.util.files import CHUNK, atomic_dir
from tasks.util.log import logger
from tasks.util.process import end_group, require_tool, run, spawn

# First bytes of a compressed file, and the program that decompresses it.
COMPRESSIONS = (
    (b"\x1f\x8b", ("gzip",)),
    (b"\xfd7zXZ\x00", ("xz",)),
    (b"\x28\xb5\x2f\xfd", ("zstd",)),
    (b"BZh", ("bzip2",)),
)
SPECIAL_TYPES = {
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
}
THREADED = {("xz",), ("zstd",)}
# Linux follows as many symlinks in one path (path_resolution(7)).
MAX_SYMLINKS = 40

# Exceptions that `zipfile` raises for a damaged archive: among others EINVAL for offsets outside
# the file, RuntimeError for an entry marked as encrypted, and errnos for impossible file names.
BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
BAD_ZIP_ERRNOS = (errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
# Header types whose whole content tarfile reads into memory.
TEXT_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class UntrustedArchive(UserError):
    """An archive has unsafe content, so it was not unpacked."""


class _Refusal(Exception):
    """The archive must not be unpacked; the text says why."""


class _Header(tarfile.TarInfo):
    """A tar header; it refuses a text that is too large for memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        # All versions of Python 3 call this method for every header.  The library's documentation
        # names `frombuf`, but Debian 12's Python does not call it for every header.
        if self.type in TEXT_HEADERS and not 0 <= self.size <= MAX_HEADER_TEXT:
            raise _Refusal(f"{self.name!r} is a header with {self.size:,} bytes of text")
        found: tarfile.TarInfo | None = super()._proc_member(tar)  # type: ignore[misc]
        return found


def unpack_tar(archive: Path, into: Path, *, strip: int = 0, label: str = "") -> None:
    """Unpack a tar archive (plain, gz, xz, zst or bz2) as the new folder `into`.

    strip: number of leading path components to remove, as in `tar --strip-components`.
    label: the archive's name in the progress line; "" writes no line.
    Modification times are kept; owners and set-id bits are not.

    Raises `UserError` and leaves `into` unchanged if the archive is damaged, cut short, or
    unpacks to too much; or if a member has an absolute path, leaves the folder by `..` or
    through a symlink, links to a path outside the folder, or is a device or FIFO.
    """
    program = _decompressor(archive)
    with jobserver.tokens(0 if program in THREADED else 1) as threads:
        parts = (f"-T{threads}",) if program in THREADED else ()
        _unpack_tar(archive, into, strip, label, (*program, *parts))


def _unpack_tar(archive: Path, into: Path, strip: int, label: str, program: tuple[str, ...]) -> None:
    started = time.monotonic()
    try:
        with _decompressed(archive, program) as stream:
            count = _check_members(stream, strip, Meter(archive.stat().st_size))
    except (_Refusal, LimitExceeded) as refusal:
        raise _untrusted(archive, refusal) from None
    checked = time.monotonic()
    with atomic_dir(into) as folder:
        options = ["--no-same-owner", "--no-same-permissions", f"--strip-components={strip}"]
        if program:
            options.append("--use-compress-program=" + " ".join(program))
        try:
            run(["tar", "--extract", "--file", archive, "--directory", folder, *options])
        except DiskFull:
            raise
        except UserError as error:
            raise _damaged(archive, error.detail) from None
    times = f"checked in {checked - started:.1f} s, unpacked in {time.monotonic() - checked:.1f} s"
    if label:
        logger.info(f"{label}: {count} members {times}")


def check_package(deb: Path, packed: Path | None = None) -> None:
    """Check the members of a Debian package (deb(5)) without unpacking it.

    packed: its tar archive, as `dpkg-deb --fsys-tarfile` wrote it; without, dpkg-deb runs.
    The rules are those of `unpack_tar`, except that symlinks may point anywhere: packages hold many
    absolute ones, and tcbuild never follows them on this machine.  Raises `UserError`.
    """
    source = _decompressed(packed, ()) if packed else _piped(["dpkg-deb", "--fsys-tarfile", deb], deb)
    try:
        with source as stream:
            _check_members(stream, 0, Meter(deb.stat().st_size), allow_outside_symlinks=True)
    except (_Refusal, LimitExceeded) as refusal:
        raise _untrusted(deb, refusal) from None
    except UserError as error:
        detail = f"  dpkg-deb --fsys-tarfile: {error.detail}"
        raise error.reworded(error.message, detail=detail) from None


def unpack_zip(archive: Path, into: Path, *, label: str) -> None:
    """Unpack a zip archive (a wheel is one) as the new folder `into`.

    Of a member's Unix mode, only the owner's executable bit is kept.

    Raises `UserError` and leaves `into` unchanged if the archive is damaged or unpacks to too
    much; or if a member has an absolute path, has `..` in its path, or is neither a file nor
    a folder.
    """
    started = time.monotonic()
    try:
        with zipfile.ZipFile(archive) as packed, atomic_dir(into) as folder:
            meter = Meter(archive.stat().st_size)
            for member in packed.infolist():
                # zipfile never reads more of a member than the size in its header.
                meter.add(member.filename, member.file_size)
                mode = member.external_attr >> 16  # PKWARE's APPNOTE 4.4.15; Info-ZIP keeps st_mode there
                parts = member.filename.rstrip("/").split("/")
                if ".." in parts or "" in parts or "\\" in member.filename:
                    raise _Refusal(f"{member.filename!r} does not stay in the folder")
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _Refusal(f"{member.filename!r} is neither a file nor a folder")
                target = folder.joinpath(*parts)
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, CHUNK)
                target.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
            count = len(packed.infolist())
    except (_Refusal, LimitExceeded) as refusal:
        raise _untrusted(archive, refusal) from None
    except (*BAD_ZIP, OSError) as error:
        if isinstance(error, OSError) and error.errno not in BAD_ZIP_ERRNOS:
            raise  # for example a full disk
        hint = "remove it and fetch it again"
        message = f"{archive}: the archive is damaged, cut short or not a zip archive"
        raise UserError(message, hint, f"  {error}") from None
    logger.info(f"{label}: {count} members unpacked in {time.monotonic() - started:.1f} s")


def _decompressor(archive: Path) -> tuple[str, ...]:
    """Return the program that decompresses `archive`; () if it is not compressed."""
    with archive.open("rb") as stream:
        head = stream.read(8)
    for magic, program in COMPRESSIONS:
        if head.startswith(magic):
            require_tool(program[0])
            return program
    return ()


@contextmanager
def _decompressed(archive: Path, program: tuple[str, ...]) -> Iterator[IO[bytes]]:
    """Yield the tar stream in `archive`; raise `UserError` if it could not be read to its end."""
    if not program:
        with archive.open("rb") as stream:
            yield from _read(stream, archive)
        return
    with _piped([*program, "-q", "-d", "-c", archive], archive) as piped:
        yield piped


@contextmanager
def _piped(argv: Sequence[str | Path], archive: Path) -> Iterator[IO[bytes]]:
    """Yield the tar stream that a program writes; raise `UserError` if the program failed."""
    process = spawn(argv)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.close()
        yield from _read(process.stdout, archive)
        if process.wait() != 0:
            raise _damaged(archive)
    finally:
        if process.poll() is None:  # the check ended before the archive did
            end_group(process)
        process.stdout.close()


def _read(stream: IO[bytes], archive: Path) -> Iterator[IO[bytes]]:
    try:
        yield stream
    except (tarfile.TarError, EOFError, ValueError) as error:
        # tarfile raises a plain ValueError for a number of a sparse file's map (GNU.sparse.map) that is none.
        raise _damaged(archive, f"  {error}") from None


def _untrusted(archive: Path, why: Exception) -> UntrustedArchive:
    hint = "do not trust this archive; nothing of it was unpacked"
    return UntrustedArchive(f"{archive.name}: {why}", hint)


def _damaged(archive: Path, detail: str = "") -> UserError:
    hint = "remove it and fetch it again"
    return UserError(f"{archive}: the archive is damaged, cut short or not a tar archive", hint, detail)


def _check_members(
    stream: IO[bytes], strip: int, meter: Meter, *, allow_outside_symlinks: bool = False
) -> int:
    """Check every header of a tar stream and return the number of members.

    allow_outside_symlinks: symlinks may point outside the folder.  Even then no member may be
    written or linked through one.  Raises `_Refusal`, `LimitExceeded` or `TarError`.
    """
    names: dict[str, bool] = {}  # path below the folder -> whether it is a symlink
    links: dict[str, str] = {}
    hard_links: list[tuple[str, str]] = []
    with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK, tarinfo=_Header) as tar:
        for member in tar:
            meter.add(member.name, member.size if member.isfile() else 0)
            path = _path_below(member, strip)
            if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
                raise _Refusal(f"{member.name!r} is {SPECIAL_TYPES.get(member.type, 'of an unknown type')}")
            if path is None:
                continue
            if path in names and (names[path] or member.issym()):
                raise _Refusal(f"{member.name!r} is written through a symlink of the same name")
            names[path] = member.issym()
            if member.issym():
                links[path] = member.linkname
            elif member.islnk():
                hard_links.append((path, _target_below(member, strip)))
        _check_end(tar)
    for path in names:
        _refuse_symlink_in(path, links, "is written")
    for path, target in hard_links:
        _refuse_symlink_in(target, links, f"(target of hard link {path!r}) is reached")
    if not allow_outside_symlinks:
        for path, target in links.items():
            _resolve(path, target, links)
    return meter.members


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise `ReadError` unless the stream ends with a zero block and holds only zeros after it.

    tarfile takes a broken header for the end of the archive; GNU tar reads on.
    """
    assert tar.fileobj is not None
    read = tar.fileobj.tell() - tar.offset
    if read != tarfile.BLOCKSIZE:
        raise tarfile.ReadError("the end of the archive is missing")
    while block := tar.fileobj.read(CHUNK):
        if block.strip(b"\0"):
            raise tarfile.ReadError(f"a broken header at byte {tar.offset}")


def _path_below(member: tarfile.TarInfo, strip: int) -> str | None:
    """Return the member's path below the folder; None if stripping removes all of it."""
    if member.name.startswith("/"):
        raise _Refusal(f"{member.name!r} is an absolute path")
    parts = [part for part in member.name.split("/") if part]
    if ".." in parts:
        raise _Refusal(f"{member.name!r} leaves the folder by '..'")
    kept = [part for part in parts[strip:] if part != "."]
    return "/".join(kept) or None


def _target_below(member: tarfile.TarInfo, strip: int) -> str:
    """Return a hard link's target below the folder; it is stripped like the paths of members."""
    parts = [part for part in member.linkname.split("/") if part]
    if member.linkname.startswith("/") or ".." in parts:
        raise _Refusal(f"{member.name!r} is a hard link to {member.linkname!r}, outside the folder")
    return "/".join(part for part in parts[strip:] if part != ".")


def _refuse_symlink_in(path: str, links: dict[str, str], how: str) -> None:
    parent = posixpath.dirname(path)
    while parent:
        if parent in links:
            raise _Refusal(f"{path!r} {how} through the symlink {parent!r}")
        parent = posixpath.dirname(parent)


def _resolve(link: str, target: str, links: dict[str, str]) -> None:
    """Follow a symlink as the kernel does, and raise `_Refusal` if it leaves the folder.

    Symlinks of the archive are followed before `..` is applied, so that `a -> .` with
    `b -> a/../x` is refused.
    """
    folder = [part for part in posixpath.dirname(link).split("/") if part]
    rest = target
    for _ in range(MAX_SYMLINKS):
        if rest.startswith("/"):
            raise _Refusal(f"symlink {link!r} points to {target!r}, an absolute path")
        parts = rest.split("/")
        rest = ""
        for number, part in enumerate(parts):
            if part == "..":
                if not folder:
                    raise _Refusal(f"symlink {link!r} points to {target!r}, outside the folder")
                folder.pop()
            elif part not in ("", "."):
                next_target = links.get("/".join([*folder, part]))
                if next_target is not None:
                    rest = "/".join([next_target, *parts[number + 1 :]])
                    break
                folder.append(part)
        if not rest:
            return
    # The kernel stops with ELOOP, but a tool that shortens `loop/../..` textually would go on.
    raise _Refusal(f"symlink {link!r} points to {target!r}, in a loop")
