"""Archives unpacked so that nothing lands outside the folder they are unpacked into.

Two passes over the archive: the first reads every member's header (ustar, pax
and GNU, see pax(1) and the GNU tar manual) and refuses what could leave the
folder, or unpacks to far too much (tasks/formats/unpack_limits.py); the second lets GNU tar write
the files (a third of tarfile's own CPU time on a kernel tree).  GNU tar's guards stay
on as a second wall.
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

from tasks.formats.unpack_limits import MOST_HEADER, Meter, TooMuch
from tasks.util import jobserver
from tasks.util.errors import DiskFull, UserError
from tasks.util.files import CHUNK, atomic_dir
from tasks.util.log import logger
from tasks.util.process import end_group, require_tool, run, spawn

# First bytes of a compressed file, and the program that reads it.
COMPRESSIONS = (
    (b"\x1f\x8b", ("gzip",)),
    (b"\xfd7zXZ\x00", ("xz",)),
    (b"\x28\xb5\x2f\xfd", ("zstd",)),
    (b"BZh", ("bzip2",)),
)
KINDS = {
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a FIFO",
}
THREADED = {("xz",), ("zstd",)}
# As many symlinks as Linux follows in one path (path_resolution(7)).
MOST_LINKS = 40


# What `zipfile` says of damage besides BadZipFile: places outside the file (EINVAL), an entry
# that is marked as encrypted (RuntimeError), a name that is none on any file system.
BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
BAD_ZIP_ERRNOS = (errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
# Headers whose content tarfile reads into memory whole.
TEXTS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class UntrustedArchive(UserError):
    """An archive that was not unpacked because of what is in it."""


class _Refusal(Exception):
    """Why an archive is not unpacked."""


class _Header(tarfile.TarInfo):
    """A header that may not have a text too large for memory behind it."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        # Called for every header in all versions of Python 3; `frombuf`, which the library's
        # documentation names, is passed by in Debian 12's.
        if self.type in TEXTS and not 0 <= self.size <= MOST_HEADER:
            raise _Refusal(f"{self.name!r} is a header with {self.size:,} bytes of text")
        found: tarfile.TarInfo | None = super()._proc_member(tar)  # type: ignore[misc]
        return found


def unpack_tar(archive: Path, into: Path, *, strip: int = 0, label: str = "") -> None:
    """Unpack a tar archive (plain, gz, xz, zst or bz2) as the new folder `into`.

    `strip` leading path components are cut off, as `tar --strip-components` does.
    `label` is what the line of progress calls it; without one there is none.
    Modification times are kept; owner and set-id bits are not.  Raises `UserError`
    and leaves `into` as it was if a member is absolute, leaves the folder by `..`
    or through a symlink, is a link to something outside, or is a device or FIFO, if
    the archive unpacks to far too much, and if it is cut or damaged.
    """
    program = _decompressor(archive)
    with jobserver.tokens(0 if program in THREADED else 1) as threads:
        parts = (f"-T{threads}",) if program in THREADED else ()
        _unpack_tar(archive, into, strip, label, (*program, *parts))


def _unpack_tar(archive: Path, into: Path, strip: int, label: str, program: tuple[str, ...]) -> None:
    started = time.monotonic()
    try:
        with _decompressed(archive, program) as stream:
            count = _check(stream, strip, Meter(archive.stat().st_size))
    except (_Refusal, TooMuch) as refusal:
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


def check_package(deb: Path) -> None:
    """Check what is in a Debian package (deb(5)), before anything of it is unpacked.

    As with `unpack_tar`, but for symlinks: packages are full of absolute ones, and those
    are never followed on this machine.  Raises `UserError`.
    """
    try:
        with _piped(["dpkg-deb", "--fsys-tarfile", deb], deb) as stream:
            _check(stream, 0, Meter(deb.stat().st_size), links_anywhere=True)
    except (_Refusal, TooMuch) as refusal:
        raise _untrusted(deb, refusal) from None
    except UserError as error:
        detail = f"  dpkg-deb --fsys-tarfile: {error.detail}"
        raise type(error)(error.message, error.hint, detail) from None


def unpack_zip(archive: Path, into: Path, *, label: str) -> None:
    """Unpack a zip archive (a wheel is one) as the new folder `into`.

    A file is executable if its Unix mode there says so, all else of the mode is left out.
    Raises `UserError` and leaves `into` as it was for a member that is absolute, has `..`
    in its path or is no file or folder, if the archive unpacks to far too much, and if it
    is damaged.
    """
    started = time.monotonic()
    try:
        with zipfile.ZipFile(archive) as packed, atomic_dir(into) as folder:
            meter = Meter(archive.stat().st_size)
            for member in packed.infolist():
                # No more than it says is ever read of a member.
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
    except (_Refusal, TooMuch) as refusal:
        raise _untrusted(archive, refusal) from None
    except (*BAD_ZIP, OSError) as error:
        if isinstance(error, OSError) and error.errno not in BAD_ZIP_ERRNOS:
            raise  # a full disk, for one
        hint = "remove it and fetch it again"
        message = f"{archive}: the archive is damaged, cut short or not a zip archive"
        raise UserError(message, hint, f"  {error}") from None
    logger.info(f"{label}: {count} members unpacked in {time.monotonic() - started:.1f} s")


def _decompressor(archive: Path) -> tuple[str, ...]:
    """Return the program that reads `archive`, () for one that is not compressed."""
    with archive.open("rb") as stream:
        head = stream.read(8)
    for magic, program in COMPRESSIONS:
        if head.startswith(magic):
            require_tool(program[0])
            return program
    return ()


@contextmanager
def _decompressed(archive: Path, program: tuple[str, ...]) -> Iterator[IO[bytes]]:
    """Yield the tar stream in `archive`; on leaving, raise `UserError` if it could not be read to its end."""
    if not program:
        with archive.open("rb") as stream:
            yield from _read(stream, archive)
        return
    with _piped([*program, "-q", "-d", "-c", archive], archive) as piped:
        yield piped


@contextmanager
def _piped(argv: Sequence[str | Path], archive: Path) -> Iterator[IO[bytes]]:
    """Yield what a program writes, a tar stream; on leaving, raise `UserError` if it failed."""
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
    except (tarfile.TarError, EOFError) as error:
        raise _damaged(archive, f"  {error}") from None


def _untrusted(archive: Path, why: Exception) -> UntrustedArchive:
    hint = "the archive is not one to trust; nothing of it was unpacked"
    return UntrustedArchive(f"{archive.name}: {why}", hint)


def _damaged(archive: Path, detail: str = "") -> UserError:
    hint = "remove it and fetch it again"
    return UserError(f"{archive}: the archive is damaged, cut short or not a tar archive", hint, detail)


def _check(stream: IO[bytes], strip: int, meter: Meter, *, links_anywhere: bool = False) -> int:
    """Read every header of a tar stream and return how many there are.

    Raises `_Refusal`, `TooMuch` or `TarError`.  links_anywhere: symlinks may lead out of the
    folder; nothing is written or linked through one all the same.
    """
    names: dict[str, bool] = {}  # path below the folder -> is it a symlink
    links: dict[str, str] = {}
    hard: list[tuple[str, str]] = []
    with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK, tarinfo=_Header) as tar:
        for member in tar:
            meter.add(member.name, member.size if member.isfile() else 0)
            path = _path_below(member, strip)
            if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
                raise _Refusal(f"{member.name!r} is {KINDS.get(member.type, 'of an unknown type')}")
            if path is None:
                continue
            if path in names and (names[path] or member.issym()):
                raise _Refusal(f"{member.name!r} is written through a symlink of the same name")
            names[path] = member.issym()
            if member.issym():
                links[path] = member.linkname
            elif member.islnk():
                hard.append((path, _target_below(member, strip)))
        _check_end(tar)
    for path in names:
        _refuse_symlink_in(path, links, "is written")
    for path, target in hard:
        _refuse_symlink_in(target, links, f"(target of hard link {path!r}) is reached")
    if not links_anywhere:
        for path, target in links.items():
            _resolve(path, target, links)
    return meter.members


def _check_end(tar: tarfile.TarFile) -> None:
    """Raise `ReadError` unless the stream ends as a tar archive does: a zero block, then zeros only.

    tarfile takes a broken header in the middle for the end; GNU tar reads on.
    """
    assert tar.fileobj is not None
    read = tar.fileobj.tell() - tar.offset
    if read != tarfile.BLOCKSIZE:
        raise tarfile.ReadError("the end of the archive is missing")
    while block := tar.fileobj.read(CHUNK):
        if block.strip(b"\0"):
            raise tarfile.ReadError(f"a broken header at byte {tar.offset}")


def _path_below(member: tarfile.TarInfo, strip: int) -> str | None:
    """Return the member's path below the folder, None if stripping leaves nothing of it."""
    if member.name.startswith("/"):
        raise _Refusal(f"{member.name!r} is an absolute path")
    parts = [part for part in member.name.split("/") if part]
    if ".." in parts:
        raise _Refusal(f"{member.name!r} leaves the folder by '..'")
    kept = [part for part in parts[strip:] if part != "."]
    return "/".join(kept) or None


def _target_below(member: tarfile.TarInfo, strip: int) -> str:
    """Return a hard link's target below the folder: a path in the archive, stripped like all others."""
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
    """Follow a symlink as the kernel would, over the archive's own symlinks, and refuse to leave.

    `..` is taken after a symlink is followed, so that `a -> .`, `b -> a/../x` does not slip through.
    """
    here = [part for part in posixpath.dirname(link).split("/") if part]
    todo = target
    for _ in range(MOST_LINKS):
        if todo.startswith("/"):
            raise _Refusal(f"symlink {link!r} points to {target!r}, an absolute path")
        parts = todo.split("/")
        todo = ""
        for number, part in enumerate(parts):
            if part == "..":
                if not here:
                    raise _Refusal(f"symlink {link!r} points to {target!r}, outside the folder")
                here.pop()
            elif part not in ("", "."):
                onward = links.get("/".join([*here, part]))
                if onward is not None:
                    todo = "/".join([onward, *parts[number + 1 :]])
                    break
                here.append(part)
        if not todo:
            return
    # The kernel gives up here (ELOOP), but a tool that reads `round/../..` by its letters would not.
    raise _Refusal(f"symlink {link!r} points to {target!r}, in a circle")
