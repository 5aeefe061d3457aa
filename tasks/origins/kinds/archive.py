# SPDX-License-Identifier: MIT
"""Origins of kind `archive`: a tar archive or a single file that upstream releases."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tasks.formats import licence_text
from tasks.formats.archive import unpack_tar
from tasks.origins.kinds.base import LockedOrigin, Resources, Unpacked
from tasks.origins.origin_lock import OriginFile
from tasks.origins.released import ReleasedFile


@dataclass(frozen=True, kw_only=True)
class ArchiveOrigin(ReleasedFile, LockedOrigin):
    """A tar archive (plain, gz, xz, zst or bz2), or a single file.

    strip: the number of leading path components to remove.
    mode: the mode of a single file, as 0o755.  With it, the file is not unpacked; it keeps its
    name in the first of `urls`.
    """

    strip: int = 0
    mode: int = 0
    kind: Literal["archive"] = "archive"

    list_command: ClassVar[str] = "tar -tf"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_release()
        if self.mode and self.strip:
            raise ValueError("mode: a file that is not unpacked has no path components to strip")
        if not 0 <= self.mode <= 0o755 or self.strip < 0:
            raise ValueError("mode, strip: expected a mode from 0 to 0o755, and a number from 0")

    def identity(self) -> str:
        return self.urls_of(self.version)[0]

    @classmethod
    def owns(cls, identity: str) -> bool:
        return identity.startswith(("http://", "https://"))

    @classmethod
    def stated_licence(cls, path: Path) -> str:
        """Return the licences of the licence files at the top of a tar archive."""
        return licence_text.of_tar(path)

    def pin(self, resources: Resources, scratch: Path) -> tuple[OriginFile, ...]:
        """Return the file's lock entry, as `ReleasedFile.pin_version` does."""
        return (self.pin_version(self.version, resources.cache, scratch),)

    def newest(self, resources: Resources, files: tuple[OriginFile, ...]) -> str:
        """Return the newest version by the tags of its repository, or by the page of the folder above."""
        return self.newest_version(self.version)

    def fetch(self, resources: Resources, files: tuple[OriginFile, ...]) -> None:
        """Fetch the locked file into the cache.  Raises `UserError` as `download` does."""
        for file in files:
            self.fetch_version(self.version, file, resources.cache, offline=resources.offline)

    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Yield the file's name and a folder with its content, or with the file itself if `mode` is set."""
        for file in files:
            cached, folder = file.cached_in(resources.cache), scratch / self.into
            if self.mode:
                folder.mkdir(parents=True)
                own = folder / self.name_of(self.version)
                shutil.copyfile(cached, own)
                own.chmod(self.mode)
            else:
                unpack_tar(cached, folder, strip=self.strip, label=file.name)
            yield file.name, scratch
