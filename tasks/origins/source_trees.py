# SPDX-License-Identifier: MIT
"""Where the source of a program or of a kernel module comes from, in a recipe that compiles it.

Each kind has one dataclass.  The lock has the sha256 of an archive.  Of a commit it has that of the tar
which git archive(1) makes of it, so a build needs no git.  A folder of this machine is not locked: it may
be edited at any time.
"""

from __future__ import annotations

import os
import re
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from tasks.formats.archive import unpack_tar
from tasks.origins import git_clone
from tasks.origins.origin_lock import OriginFile, entry_of, missing_files, store, store_locked
from tasks.origins.released import ReleasedFile
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import DiskFull, ToolMissing, UserError
from tasks.util.files import scratch_folder
from tasks.util.log import logger
from tasks.util.toml_schema import PATTERN, check_patterns, check_required

COMMIT = re.compile("[0-9a-f]{40}")
ADDRESS = re.compile(r"(https?|ssh|git|file)://[^\s?#@]*(@[^\s?#@]+)?|[\w.-]+@[\w.-]+:\S+")
GIT = "git:"
FOLDER = "folder:"
LEFT_OUT = (".git",)
"""What of a folder is no source."""


@dataclass(frozen=True, kw_only=True)
class SourceTree(ABC):
    """Where a source comes from."""

    kind: str

    is_locked: ClassVar[bool] = True
    """The recipe's lock has its files."""

    def __post_init__(self) -> None:
        check_required(self)
        check_patterns(self)

    @abstractmethod
    def identity(self, version: str) -> str:
        """Return the key of its lock entries."""

    @abstractmethod
    def unpack(self, files: tuple[OriginFile, ...], cache: Path, into: Path) -> None:
        """Put the source into the new folder `into`; files: its locked files, which lie in the cache.

        Raises `UserError` if it is damaged or absent.
        """

    @abstractmethod
    def pin(self, version: str, cache: Path, scratch: Path) -> tuple[OriginFile, ...]:
        """Fetch the source into the cache, and return its lock entries.

        scratch: a folder on the cache's file system.  Raises `UserError` if it is not available.
        """

    def newest(self, version: str) -> str:
        """Return the newest version that upstream offers, "" if nothing lists them.

        Raises `UserError` if upstream cannot be asked.
        """
        return ""

    @abstractmethod
    def fetch(self, version: str, files: tuple[OriginFile, ...], cache: Path, *, offline: bool) -> None:
        """Fetch its locked files into the cache; files that are there need no network.

        Raises `UserError` if one is not available, is not the locked one, or is missing from the cache
        while `offline` is set.
        """

    def folder(self) -> Path | None:
        """Return the folder of this machine, None for what is fetched."""
        return None


@dataclass(frozen=True, kw_only=True)
class ArchiveTree(ReleasedFile, SourceTree):
    """A tar archive (plain, gz, xz, zst or bz2) that upstream releases.

    strip: the number of leading path components to remove.
    """

    strip: int = 1
    kind: Literal["archive"] = "archive"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_release()
        if self.strip < 0:
            raise ValueError("strip: expected a number from 0")

    def identity(self, version: str) -> str:
        return self.urls_of(version)[0]

    def pin(self, version: str, cache: Path, scratch: Path) -> tuple[OriginFile, ...]:
        return (self.pin_version(version, cache, scratch),)

    def newest(self, version: str) -> str:
        return self.newest_version(version)

    def fetch(self, version: str, files: tuple[OriginFile, ...], cache: Path, *, offline: bool) -> None:
        for file in files:
            self.fetch_version(version, file, cache, offline=offline)

    def unpack(self, files: tuple[OriginFile, ...], cache: Path, into: Path) -> None:
        for file in files:
            unpack_tar(file.cached_in(cache), into, strip=self.strip, label=file.name)


@dataclass(frozen=True, kw_only=True)
class GitTree(SourceTree):
    """A commit of a git repository, without submodules.

    url: the address of the repository, as `git fetch` takes it.
    commit: the 40 hex digits of the commit.
    """

    url: str = field(metadata={PATTERN: ADDRESS})
    commit: str = field(metadata={PATTERN: COMMIT})
    kind: Literal["git"] = "git"

    def identity(self, version: str) -> str:
        return f"{GIT}{self.url}@{self.commit}"

    @property
    def file_name(self) -> str:
        """The name of the tar of the commit."""
        name = re.sub(r"[^A-Za-z0-9_-]", "", PurePosixPath(self.url.rpartition(":")[2]).stem) or "source"
        return f"{name}-{self.commit}.tar"

    def pin(self, version: str, cache: Path, scratch: Path) -> tuple[OriginFile, ...]:
        path = self._archive(cache, scratch)
        entry = entry_of(self.identity(version), self.file_name, path)
        store(cache, entry, path)
        logger.info(f"lock: {self.url}  commit {self.commit}  {entry.size:,} bytes  sha256 {entry.sha256}")
        return (entry,)

    def fetch(self, version: str, files: tuple[OriginFile, ...], cache: Path, *, offline: bool) -> None:
        for file in missing_files(files, cache, offline=offline):
            with scratch_folder(file.cached_in(cache).parent, "git") as scratch:
                store_locked(cache, file, self._archive(cache, scratch), self.url)

    def _archive(self, cache: Path, scratch: Path) -> Path:
        """Fetch the commit, and return a tar of it; the commit's id vouches for its content."""
        path, clone = scratch / self.file_name, git_clone.of(cache, self.url)
        try:
            clone.pin(self.commit)
        except (ToolMissing, DiskFull):
            raise
        except UserError:
            # A server may hand out only what a branch or a tag names.
            clone.complete()
            if not clone.has(self.commit):
                message = f"{clone.label} has no commit {self.commit}"
                raise UserError(message, "correct `commit` in the recipe") from None
        clone.archive(self.commit, path)
        return path

    def unpack(self, files: tuple[OriginFile, ...], cache: Path, into: Path) -> None:
        for file in files:
            unpack_tar(file.cached_in(cache), into, label=file.name)


@dataclass(frozen=True, kw_only=True)
class FolderTree(SourceTree):
    """A folder of this machine, as it is now.

    path: the path of the folder; a relative path begins at a tree or at the checkout.
    """

    path: str
    kind: Literal["folder"] = "folder"

    is_locked: ClassVar[bool] = False

    def identity(self, version: str) -> str:
        # Locks and manifests hold it, and they must not show a path of this machine.
        return f"{FOLDER}{Path(self.path).name if Path(self.path).is_absolute() else self.path}"

    def folder(self) -> Path:
        return CHECKOUT.path(self.path)

    def pin(self, version: str, cache: Path, scratch: Path) -> tuple[OriginFile, ...]:
        return ()

    def fetch(self, version: str, files: tuple[OriginFile, ...], cache: Path, *, offline: bool) -> None:
        """There is nothing to fetch."""

    def unpack(self, files: tuple[OriginFile, ...], cache: Path, into: Path) -> None:
        top = self.folder()
        if not top.is_dir():
            raise UserError(f"{top} is not a folder", "check `path` of `source` in the recipe")
        shutil.copytree(top, into, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))


AnyTree = ArchiveTree | GitTree | FolderTree


def files_of(folder: Path) -> list[Path]:
    """Return the regular files of a source's folder, sorted; none if there is no folder."""
    found = []
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        found += [path for path in (Path(top, name) for name in names) if path.is_file()]
    return sorted(path for path in found if not path.is_symlink())
