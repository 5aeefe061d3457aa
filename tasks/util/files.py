"""Files that are either whole or absent."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK = 1 << 20
# What `atomic_path`, `atomic_dir` and the stages' scratch folders are called (tempfile's eight letters).
LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.(part|old)|\.(deb|efi|linux|rootfs|shared)-[a-z0-9_]{8}")


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`; on success fsync it and rename it there.

    On any exception, Ctrl-C included, the temporary file is removed and `final`
    is left as it was.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        _fsync(partial)
        partial.chmod(0o644 if not os.access(partial, os.X_OK) else 0o755)
        os.replace(partial, final)
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
    partial = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
    partial.chmod(0o755)
    # A folder can only be renamed onto an empty one, so the old one steps aside first:
    # removing it would take long, and could stop half-way.
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


@contextmanager
def scratch_folder(top: Path, prefix: str) -> Iterator[Path]:
    """Yield an empty folder in `top`, on its file system, gone afterwards; `top` is made at need."""
    top.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=top))
    try:
        yield folder
    finally:
        remove_tree(folder)


def remove_leftovers(top: Path) -> None:
    """Remove the partial files and folders that killed runs have left in `top` and the folders in it.

    Only for who knows that nobody else works there.
    """
    inside = [path for path in top.iterdir() if path.is_dir() and not path.is_symlink()]
    for folder in (*inside, top):
        for path in list(folder.iterdir()):
            if LEFTOVER.fullmatch(path.name):
                remove_tree(path)


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
