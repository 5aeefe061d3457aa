# SPDX-License-Identifier: MIT
"""Sources of kind `file`: a file or an unpacked tree of this machine."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tasks.origins.lock import Lock, LockedFile
from tasks.origins.sources.base import Access, Material, Source
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import sha256_file


@dataclass(frozen=True, kw_only=True)
class FileSource(Source):
    """A file or an unpacked tree of this machine.

    path: the path of the file or folder; a relative path begins at the checkout.
    """

    path: str
    kind: Literal["file"] = "file"

    is_local: ClassVar[bool] = True

    def label(self) -> str:
        return self.path

    def local_name(self) -> str:
        return self.path

    def local_file(self) -> Path:
        path = CHECKOUT.root / self.path
        if not path.exists():
            raise UserError(f"{path} does not exist", "check the path in the profile")
        return path

    def tree(self) -> Path | None:
        path = CHECKOUT.root / self.path
        return path if path.is_dir() else None

    def locked_in(self, lock: Lock) -> LockedFile | None:
        return lock.find_file(self.path)

    def pinned_in(self, lock: Lock, access: Access) -> LockedFile | None:
        """Return the entry for the file as it is now; None for a tree, which has no single sha256."""
        path = self.local_file()
        if path.is_dir():
            return None
        entry = LockedFile(self.path, sha256_file(path))
        locked = self.locked_in(lock)
        if locked is not None and locked != entry:
            message = f"{path}: expected sha256 {locked.sha256}, got {entry.sha256}"
            raise UserError(message, "./doit lock takes it as it is now")
        return entry

    def material(self, lock: Lock, cache: Path) -> Material:
        path = CHECKOUT.root / self.path
        if path.is_dir():
            digest, size = tree_digest(path)
        elif path.is_file():
            digest, size = sha256_file(path), path.stat().st_size
        else:
            raise UserError(f"{path.name} is no longer there", "./doit fetch")
        return Material("local", path.name, digest, size, "a file of the builder's own")


def tree_digest(folder: Path) -> tuple[str, int]:
    """Return the digest and the size in bytes of all files below a folder, except .git."""
    digest, size = hashlib.sha256(), 0
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(names):
            path = Path(top, name)
            content = f"-> {os.readlink(path)}" if path.is_symlink() else sha256_file(path)
            size += 0 if path.is_symlink() else path.stat().st_size
            line = f"{path.relative_to(folder)}\0{content}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest(), size
