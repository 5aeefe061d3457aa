# SPDX-License-Identifier: MIT
"""Sources of kind `apt`: a Debian package from the machine's own apt sources."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import ClassVar, Literal

from tasks.origins import apt
from tasks.origins.lock import Lock, LockedPackage
from tasks.origins.sources.base import Access, Entry, Source
from tasks.util.errors import UserError
from tasks.util.log import logger


@dataclass(frozen=True, kw_only=True)
class AptSource(Source):
    """A package from the machine's apt sources, verified by apt's signatures.

    package: a shell pattern of the package's name; the newest match by version is taken.
    """

    package: str
    kind: Literal["apt"] = "apt"

    is_package: ClassVar[bool] = True

    def label(self) -> str:
        return self.package

    def locked_in(self, lock: Lock) -> LockedPackage | None:
        found = [package for package in lock.package if fnmatch.fnmatchcase(package.name, self.package)]
        if len(found) > 1:
            names = ", ".join(package.name for package in found)
            raise UserError(
                f"{self.package} matches several locked packages: {names}", "use a narrower pattern"
            )
        return found[0] if found else None

    def pinned_in(self, lock: Lock, access: Access) -> LockedPackage | None:
        return self.locked_in(lock)

    def packages(self, lock: Lock, access: Access) -> tuple[str, ...]:
        """Return the package that matches: the locked one while it is available, else the newest."""
        locked = self.locked_in(lock)
        if locked is not None and (
            access.frozen
            or access.offline
            or apt.is_cached(locked, access.cache)
            or apt.available_versions([locked.name])
        ):
            return (locked.name,)
        if access.frozen:
            raise UserError(f"frozen=1, but no version is locked for {self.package}", "./doit lock")
        if access.offline:
            message = f"no locked package in the cache matches {self.package}"
            raise UserError(message, "run once without offline=1")
        name, version = apt.newest(self.package)
        if locked is not None:
            apt.refuse_older(self.package, locked.version, version)
            change = f"{locked.name} {locked.version} -> {name} {version}"
            logger.info(f"{change} (the locked package is no longer offered)")
        return (name,)

    def fetch(self, entry: Entry, access: Access) -> None:
        assert isinstance(entry, LockedPackage)
        apt.fetch_locked([entry], offline=access.offline, frozen=access.frozen, cache=access.cache)
