# SPDX-License-Identifier: MIT
"""Sources of kind `apt`: a package of the profile's suite."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import ClassVar, Literal

from tasks.formats import debian_control
from tasks.origins import suite
from tasks.origins.lock import Lock, LockedPackage
from tasks.origins.sources.base import Access, Entry, Source, States
from tasks.util.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AptSource(Source):
    """A package of the profile's suite, verified by the distribution's signatures.

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

    def packages(self, lock: Lock, access: Access) -> tuple[LockedPackage, ...]:
        locked = self.locked_in(lock)
        if locked is not None:
            return (locked,)
        if access.frozen:
            raise UserError(f"frozen=1, but no version is locked for {self.package}", "./doit lock")
        return (suite.newest(access.packages_suite(), self.package, access.cache, offline=access.offline),)

    def fetch(self, entry: Entry, access: Access) -> None:
        assert isinstance(entry, LockedPackage)
        whole = access.packages_suite()
        suite.fetch(whole, [entry], access.cache, offline=access.offline, dates=access.dates)

    def states(self, lock: Lock, access: Access) -> States | None:
        locked = self.locked_in(lock)
        if locked is None:
            return None
        whole = access.packages_suite()
        found = suite.newest(whole, self.package, access.cache, offline=access.offline)
        # A mirror may be behind the lock.
        if debian_control.version(found.version) < debian_control.version(locked.version):
            found = locked
        return States(f"{locked.name} {locked.version}", f"{found.name} {found.version}", str(whole))
