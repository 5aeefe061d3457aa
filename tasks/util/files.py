# SPDX-License-Identifier: MIT
"""Files that are either whole or absent, and the names of unfinished files.

Each temporary file or folder in a folder of tcbuild is called `.NAME.XXXXXXXX.part`: NAME is the
final name or says what the scratch folder is for, and `tempfile` chooses the eight letters.
`.old` in place of `.part` is the folder that a new one replaces.  A killed run leaves
them; `is_temporary` recognises them.  Files that are never renamed into such a folder lie in the
system's temporary folder as `tcbuild-*`, and the system removes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import NamedTuple

from tasks.util.errors import UserError

CHUNK = 1 << 20
SECOND = 1_000_000_000  # nanoseconds
# Steps of the kernel's clock (1/HZ, at most 10 ms), and of file systems that store only even seconds.
FINE_STEP, COARSE_STEP = 2 * SECOND // 100, 2 * SECOND
TEMPORARY = re.compile(r"\..+\.[A-Za-z0-9_]{8}\.(part|old)")
TEMPORARY_IN_TEXT = re.compile(r"/\.([^/\s'\"]+)\.[A-Za-z0-9_]{8}\.part")


class Stamp(NamedTuple):
    """What tells without reading a file that it was not written to: size in bytes, times in nanoseconds."""

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp in the result of stat(2)."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def stamp(path: str | Path) -> Stamp | None:
    """Return the stamp of a file or folder; None if there is none."""
    try:
        return Stamp.of(os.stat(path))
    except OSError:
        return None


def is_settled(ctime: int, now: int = 0) -> bool:
    """Tell whether an edit of a file from `now` on must change its stamp.

    ctime, now: in nanoseconds; 0 means this moment.  A file system counts time in steps, and an edit in
    the same step leaves the times as they are (git: "racy").
    """
    return (now or time.time_ns()) - ctime > (FINE_STEP if ctime % SECOND else COARSE_STEP)


def is_temporary(name: str) -> bool:
    """Tell whether a file or folder with this name (without a folder) is not finished."""
    return TEMPORARY.fullmatch(name) is not None


def with_final_names(text: str) -> str:
    """Return `text` with the final name for each temporary name in its paths."""
    return TEMPORARY_IN_TEXT.sub(r"/\1", text)


@contextmanager
def atomic_path(final: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `final`; on success fsync it and rename it there.

    Without `sync`, a crash of the machine may truncate `final`.  Use that only for a file whose
    content is compared with the digest in its name before use.  On any exception, Ctrl-C included,
    the temporary file is removed and `final` is left as it was.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)
    os.close(handle)
    partial = Path(temporary)
    try:
        yield partial
        if sync:
            _fsync(partial)
        partial.chmod(0o644 if not os.access(partial, os.X_OK) else 0o755)
        os.replace(partial, final)
        if sync:
            _fsync(final.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(final: Path, content: str | bytes) -> None:
    """Write `content` to `final` so that a reader sees the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(final) as partial:
        partial.write_bytes(data)


def write_if_changed(final: Path, content: str | bytes) -> bool:
    """Like `write_atomic`, but leave an equal file (and its mtime) alone.  True if written.

    `make` decides by mtime, so rewriting an unchanged `.config` would cost a rebuild.
    """
    data = content.encode() if isinstance(content, str) else content
    if final.is_file() and final.read_bytes() == data:
        return False
    write_atomic(final, data)
    return True


@contextmanager
def atomic_dir(final: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `final`; on success it replaces `final`.

    On any exception, Ctrl-C included, the temporary folder is removed and `final` is left
    as it was, whole.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = _temporary_folder(final.parent, final.name)
    partial.chmod(0o755)
    # A folder can only be renamed onto an empty one, so the old one is renamed first.
    # Removing it takes long, and could stop half-way.
    old = partial.with_suffix(".old")
    try:
        yield partial
        if os.path.lexists(final):
            os.rename(final, old)
        os.rename(partial, final)
        _fsync(final.parent)
    finally:
        if os.path.lexists(old) and not os.path.lexists(final):
            os.rename(old, final)
        remove_tree(partial)
        remove_tree(old)


def remove_tree(path: Path) -> None:
    """Remove a file, link or whole folder, if it is there, read-only folders included."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)
        shutil.rmtree(path)


def remove_with_empty_folders(top: Path, path: str) -> None:
    """Remove what lies at `path` below `top`, and then the folders above it that have become empty."""
    remove_tree(top / path)
    for parent in PurePath(path).parents[:-1]:
        try:
            (top / parent).rmdir()
        except OSError:
            return


@contextmanager
def scratch_folder(top: Path, name: str, *, ignore_errors: bool = False) -> Iterator[Path]:
    """Yield an empty folder `.NAME.XXXXXXXX.part` in `top`, and remove it afterwards.

    It is on the file system of `top`, so that a file can be renamed out of it.  `top` is made
    if it does not exist.  `ignore_errors` is for a folder to which abandoned threads may still
    write while it is removed.
    """
    top.mkdir(parents=True, exist_ok=True)
    folder = _temporary_folder(top, name)
    try:
        yield folder
    finally:
        if ignore_errors:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            remove_tree(folder)


def _temporary_folder(top: Path, name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".part", dir=top))


def leftovers(top: Path) -> list[Path]:
    """Return the temporary files and folders in `top` and in the folders in it, sorted.

    They belong to killed runs, or to a run that is still running.
    """
    inside = [path for path in top.iterdir() if path.is_dir() and not path.is_symlink()]
    found = [path for folder in (top, *inside) for path in folder.iterdir() if is_temporary(path.name)]
    return sorted(path for path in found if not is_temporary(path.parent.name))


def remove_leftovers(top: Path) -> None:
    """Remove the `leftovers` of `top`.  The caller makes sure that no other run uses `top`."""
    for path in leftovers(top):
        remove_tree(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the file `path`, which is made: of two processes the second waits (flock(2))."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def require_file(path: Path, hint: str = "") -> None:
    """Raise `UserError` unless `path`, which a person gave, is a regular file."""
    if path.is_dir():
        raise UserError(f"{path} is a folder", hint)
    if not path.is_file():
        raise UserError(f"{path} {'is no regular file' if path.exists() else 'does not exist'}", hint)


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
