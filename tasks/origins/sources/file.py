# SPDX-License-Identifier: MIT
"""Sources of kind `file`: a file or an unpacked tree of this machine."""

from __future__ import annotations

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

    path: the path of the file or folder; a relative path begins at a tree or at the checkout.
    """

    path: str
    kind: Literal["file"] = "file"

    is_local: ClassVar[bool] = True
    is_fetched: ClassVar[bool] = False

    def label(self) -> str:
        return self.path

    def local_name(self) -> str:
        return self.path

    def local_file(self) -> Path:
        path = CHECKOUT.path(self.path)
        if not path.exists():
            raise UserError(f"{path} does not exist", "check the path in the profile")
        return path

    def tree(self) -> Path | None:
        path = CHECKOUT.path(self.path)
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

    def material(self, lock: Lock, cache: Path) -> Material | None:
        """Return the file as it is now; None for a tree, of which only its copy can tell what was used."""
        path = CHECKOUT.path(self.path)
        if path.is_dir():
            return None
        if not path.is_file():
            raise UserError(f"{path.name} is no longer there", "./doit fetch")
        origin = "a file of the builder's own"
        return Material("local", path.name, sha256_file(path), path.stat().st_size, origin)
