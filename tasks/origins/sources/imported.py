# SPDX-License-Identifier: MIT
"""Sources of kind `imported`: a file that `./doit import` put into the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tasks.origins.lock import SHA256, Lock, LockedFile
from tasks.origins.sources.base import Access, Entry, Material, Source
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tasks.util.toml_schema import PATTERN

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, kw_only=True)
class ImportedSource(Source):
    """A file that `./doit import` took from a medium.

    name: its name in the cache; sha256: of the file.  No server has the file.
    """

    name: str = field(metadata={PATTERN: FILE_NAME})
    sha256: str = field(metadata={PATTERN: SHA256})
    kind: Literal["imported"] = "imported"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not FILE_NAME.fullmatch(self.name):
            raise ValueError(f"name: expected a file's name, got {self.name!r}")
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256: expected 64 hex digits, got {self.sha256!r}")

    def label(self) -> str:
        return self.name

    @property
    def entry(self) -> LockedFile:
        """The lock entry; the profile itself has the sha256."""
        return LockedFile(self.name, self.sha256)

    def locked_in(self, lock: Lock) -> LockedFile:
        return self.entry

    def pinned_in(self, lock: Lock, access: Access) -> LockedFile:
        return self.entry

    def pin(self, access: Access, scratch: Path) -> LockedFile:
        return self.entry

    def fetch(self, entry: Entry, access: Access) -> None:
        assert isinstance(entry, LockedFile)
        name = access.imported_name or access.profile
        require_imported(entry.cached_in(access.cache), entry.sha256, access.medium, name)

    def material(self, lock: Lock, cache: Path) -> Material:
        path = self.entry.cached_in(cache)
        size = path.stat().st_size if path.is_file() else 0
        return Material("local", self.name, self.sha256, size, "imported from a medium")


def require_imported(path: Path, sha256: str, medium: str, profile: str) -> None:
    """Raise `UserError`, which says where it comes from, if the cache lacks an imported file.

    medium: the name of what was imported, "" if it is not known; profile: the one it was imported as.
    """
    if path.is_file() and sha256_file(path) == sha256:
        return
    what = "in the cache is damaged" if path.is_file() else "is not in the cache"
    where = medium or "the medium that it came from"
    message = f"{path.name} {what}, and no server has it: it was imported from {where}"
    raise UserError(message, f"import it again: ./doit import {medium or 'PATH'} {profile}")
