# SPDX-License-Identifier: MIT
"""The base class of all kinds of sources: find lock entries, pin, fetch and describe a source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from tasks.origins.distribution import Suite
from tasks.origins.lock import Lock, LockedArchive, LockedCommit, LockedFile, LockedPackage
from tasks.origins.mirrors import Mirrors, md5_file
from tasks.origins.published import Published
from tasks.util.errors import UserError
from tasks.util.toml_schema import check_required

Entry = LockedPackage | LockedFile | LockedCommit
"""The lock entry of a source."""


@dataclass(frozen=True)
class Access:
    """What a source uses to fetch its file.

    profile: the profile's name, for hints; cache: the folder of downloads; offline: forbids the
    network; frozen: allows only locked files; mirrors: the profile's mirrors; suite: what packages
    are taken from, None if the profile names none; dates: of the suite's archives in the lock;
    medium: what the profile was imported from; imported_name: the profile that the import wrote;
    published: hashes of files that others publish, by path below a mirror.
    """

    profile: str
    cache: Path
    offline: bool
    frozen: bool
    mirrors: Mirrors
    suite: Suite | None = None
    dates: tuple[LockedArchive, ...] = ()
    medium: str = ""
    imported_name: str = ""
    published: Mapping[str, Published] = field(default_factory=dict)

    def packages_suite(self) -> Suite:
        """Return the profile's suite.  Raises `UserError` if it names none."""
        if self.suite is None:
            hint = 'add suite = { distribution = "debian", name = "bookworm" } to the profile'
            raise UserError(f"profile {self.profile} takes packages, and names no suite", hint)
        return self.suite

    def require_locked(self, path: str, entry: LockedFile | None) -> LockedFile:
        """Return `entry`, that of the file at `path`.  Raises `UserError` if it is None: not locked."""
        if entry is None:
            message = f"no sha256 is locked for {path} of profile {self.profile}"
            raise UserError(message, f"./doit lock profile={self.profile}")
        return entry


class States(NamedTuple):
    """What a source is locked as, and the newest that is offered now, both for people; where that is from."""

    locked: str
    newest: str
    where: str


class Material(NamedTuple):
    """A manifest's entry for a source; size: bytes, 0 if it was not fetched; origin: where it is from."""

    kind: Literal["mirror", "local"]
    name: str
    sha256: str
    size: int
    origin: str


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where a file comes from."""

    kind: str

    is_local: ClassVar[bool] = False
    """It is a file of this machine, which is not fetched and may change at any time."""
    is_fetched: ClassVar[bool] = True
    """It is fetched, and the lock holds it."""
    is_package: ClassVar[bool] = False
    """It is a package that contains the file."""

    def __post_init__(self) -> None:
        check_required(self)

    @abstractmethod
    def label(self) -> str:
        """Return the name of the source for messages."""

    @abstractmethod
    def locked_in(self, lock: Lock) -> Entry | None:
        """Return its entry in `lock`, None if there is none.  Raises `UserError` if several match."""

    @abstractmethod
    def pinned_in(self, lock: Lock, access: Access) -> Entry | None:
        """Return the entry to fetch by `lock`; None for a source without a single sha256.

        Raises `UserError` if it must be locked and is not, or if it is not the locked one.
        """

    def packages(self, lock: Lock, access: Access) -> tuple[LockedPackage, ...]:
        """Return the packages to fetch for it: the locked ones, else the newest."""
        return ()

    def pin(self, access: Access, scratch: Path) -> LockedFile | LockedCommit | None:
        """Download what is not locked yet into the cache; return its entry, None for kind apt.

        scratch: a folder on the cache's file system.  Raises `UserError` if it is not available.
        """
        return None

    def fetch(self, entry: Entry, access: Access) -> None:
        """Fetch what `entry` locks into the cache; a file that is there needs no network.

        Raises `UserError` if it is not available, is not the locked one, or is missing from the
        cache while `offline` is set.
        """
        raise NotImplementedError(f"kind {self.kind} is not fetched")

    def states(self, lock: Lock, access: Access) -> States | None:
        """Ask for the newest that is offered; None if nothing is locked, or nobody offers anything newer.

        Raises `UserError` if nobody can tell.
        """
        return None

    def mirror_path(self) -> str:
        """Return its path below the profile's mirrors, "" if it does not come from there."""
        return ""

    def published_path(self) -> str:
        """Return the path under which hashes of it are published, "" if it is no file of a mirror."""
        return self.mirror_path()

    def local_name(self) -> str:
        """Return the path of a local file as the profile has it, "" for other kinds."""
        return ""

    def local_file(self) -> Path:
        """Return the path of the local file or folder.  Raises `UserError` if it does not exist."""
        raise NotImplementedError(f"kind {self.kind} is no file of this machine")

    def tree(self) -> Path | None:
        """Return the local folder, which may be edited in place; None if it is not a folder."""
        return None

    def material(self, lock: Lock, cache: Path) -> Material | None:
        """Return a manifest's entry for it; None for a package, and if `lock` has no entry for it.

        Fetches nothing.  Raises `UserError` for a local file that does not exist.
        """
        return None


@dataclass(frozen=True, kw_only=True)
class ServedSource(Source):
    """A file that servers have below their addresses; `published_path` is its path there."""

    server_kind: ClassVar[str]
    """What a manifest calls the servers."""

    def servers(self, access: Access) -> Mirrors:
        """Return the servers that are asked: the profile's mirrors."""
        return access.mirrors

    def locked_in(self, lock: Lock) -> LockedFile | None:
        return lock.find_file(self.published_path())

    def pinned_in(self, lock: Lock, access: Access) -> LockedFile:
        return access.require_locked(self.published_path(), self.locked_in(lock))

    def pin(self, access: Access, scratch: Path) -> LockedFile:
        path = self.published_path()
        return self.servers(access).pin(path, access.cache, scratch, access.published.get(path))

    def fetch(self, entry: Entry, access: Access) -> None:
        assert isinstance(entry, LockedFile)
        final = entry.cached_in(access.cache)
        path = self.published_path()
        self.servers(access).download(path, final, sha256=entry.sha256, offline=access.offline)

    def states(self, lock: Lock, access: Access) -> States | None:
        """Compare the locked file, which must lie in the cache, with the md5 that a mirror publishes."""
        entry = self.locked_in(lock)
        if entry is None:
            return None
        path, served = entry.cached_in(access.cache), self.published_path()
        if not path.is_file():
            message = f"{path.name} is not in the cache, and a mirror publishes at most its md5"
            raise UserError(message, f"./doit fetch profile={access.profile}")
        published = self.servers(access).published_md5(served)
        if published is None:
            raise UserError(f"no mirror publishes the md5 of {served}")
        return States(f"md5 {md5_file(path)}", f"md5 {published}", f"{self.server_kind}: {served}")

    def material(self, lock: Lock, cache: Path) -> Material | None:
        entry = self.locked_in(lock)
        if entry is None:
            return None
        path = entry.cached_in(cache)
        size = path.stat().st_size if path.is_file() else 0
        served = self.published_path()
        return Material("mirror", served, entry.sha256, size, f"{self.server_kind}: {served}")
