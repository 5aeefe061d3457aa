"""What all kinds of sources can do: say what is locked, be learnt, be fetched, tell what they are."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from tasks.origins.lock import Lock, LockedFile, LockedPackage
from tasks.origins.mirrors import Mirrors

Entry = LockedPackage | LockedFile
"""What the lock says of a source."""


@dataclass(frozen=True)
class Access:
    """What a source may use to be fetched.

    profile: its name, for hints; cache: the folder of downloads; offline: the network is
    forbidden; frozen: nothing but what is locked is taken.
    """

    profile: str
    cache: Path
    offline: bool
    frozen: bool
    mirrors: Mirrors


class Material(NamedTuple):
    """What a manifest says of a source; size: bytes, 0 if it was not fetched; origin: where it is from."""

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
    """It is a file of this machine: nothing is fetched, and it may change at any time."""
    is_package: ClassVar[bool] = False
    """It is a package, with the wanted file in it."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            if one.default is dataclasses.MISSING and not getattr(self, one.name):
                raise ValueError(f"{one.name}: needed by kind = {self.kind!r}")

    @abstractmethod
    def label(self) -> str:
        """Return what messages call it."""

    @abstractmethod
    def locked_in(self, lock: Lock) -> Entry | None:
        """Return the entry of `lock` for it, None if there is none.  Raises `UserError` if several fit."""

    @abstractmethod
    def pinned_in(self, lock: Lock, access: Access) -> Entry | None:
        """Return what is to be fetched by `lock`; None if there is no one sha256.

        Raises `UserError` if it must be locked and is not, or is another than the locked one.
        """

    def packages(self, lock: Lock, access: Access) -> tuple[str, ...]:
        """Return the apt packages that it stands for now."""
        return ()

    def pin(self, access: Access, scratch: Path) -> LockedFile | None:
        """Bring what nobody has verified yet into the cache, and return its entry; None if apt vouches.

        scratch: a folder on the cache's file system.  Raises `UserError` if it cannot be had.
        """
        return None

    def fetch(self, entry: Entry, access: Access) -> None:
        """Bring what `entry` locks into the cache; what is there costs no network.

        Raises `UserError` if it cannot be had or is another, and with `offline` if it is not there.
        """
        raise NotImplementedError(f"kind {self.kind} is not fetched")

    def mirror_path(self) -> str:
        """Return its path below the profile's mirrors, "" if it does not come from there."""
        return ""

    def local_name(self) -> str:
        """Return the path of this machine as the profile has it, "" if it is fetched."""
        return ""

    def local_file(self) -> Path:
        """Return the file or folder of this machine that it is.  Raises `UserError` if it is gone."""
        raise NotImplementedError(f"kind {self.kind} is no file of this machine")

    def tree(self) -> Path | None:
        """Return the folder of this machine that it is, which may be edited in place; None if it is none."""
        return None

    def material(self, lock: Lock, cache: Path) -> Material | None:
        """Return what a manifest says of it; None if `lock` has no entry for it, or it is a package.

        Nothing is fetched for it.  Raises `UserError` for a file of this machine that is gone.
        """
        return None
