# SPDX-License-Identifier: MIT
"""Sources of kind `http`: a file below the profile's mirrors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.origins.lock import Lock, LockedFile
from tasks.origins.sources.base import Access, Entry, Material, Source


@dataclass(frozen=True, kw_only=True)
class HttpSource(Source):
    """A file below the profile's mirrors.

    path: the path of the file below the address of each mirror; mirrors are asked in order.
    """

    path: str
    kind: Literal["http"] = "http"

    def label(self) -> str:
        return self.path

    def mirror_path(self) -> str:
        return self.path

    def locked_in(self, lock: Lock) -> LockedFile | None:
        return lock.find_file(self.path)

    def pinned_in(self, lock: Lock, access: Access) -> LockedFile:
        return access.require_locked(self.path, self.locked_in(lock))

    def pin(self, access: Access, scratch: Path) -> LockedFile:
        return access.mirrors.pin(self.path, access.cache, scratch, access.published.get(self.path))

    def fetch(self, entry: Entry, access: Access) -> None:
        final = entry.cached_in(access.cache)
        access.mirrors.download(self.path, final, sha256=entry.sha256, offline=access.offline)

    def material(self, lock: Lock, cache: Path) -> Material | None:
        entry = self.locked_in(lock)
        if entry is None:
            return None
        path = entry.cached_in(cache)
        size = path.stat().st_size if path.is_file() else 0
        return Material("mirror", self.path, entry.sha256, size, f"mirrors: {self.path}")
