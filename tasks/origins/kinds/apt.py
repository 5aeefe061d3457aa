# SPDX-License-Identifier: MIT
"""Origins of kind `apt`: files of packages of the profile's suite.

The profile's lock holds the packages; `./doit fetch` fetches them (tasks/origins/suite.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tasks.formats import debian_package
from tasks.origins.kinds.base import Origin, Resources, Unpacked
from tasks.origins.origin_lock import OriginFile


@dataclass(frozen=True, kw_only=True)
class AptOrigin(Origin):
    """The files of apt packages, by their paths below `/` without a leading slash.

    packages: the names of the packages, as a person would name them.  The libraries that their
    programs need come from further packages, which the lock names.
    """

    packages: tuple[str, ...]
    kind: Literal["apt"] = "apt"

    list_command: ClassVar[str] = "dpkg-deb --contents FILE.deb"

    def label(self) -> str:
        return " ".join(self.packages)

    def apt_packages(self) -> tuple[str, ...]:
        return self.packages

    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        debs = resources.debs(self.packages)
        for package in self.packages:
            debian_package.unpack_deb(debs[package], scratch)
            yield package, scratch
