# SPDX-License-Identifier: MIT
"""Sources of kind `kernel.org`: the kernel's source as its developers release it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from tasks.origins import mirrors, versions
from tasks.origins.lock import Lock
from tasks.origins.mirrors import Mirrors
from tasks.origins.sources.base import Access, ServedSource, States
from tasks.util.errors import UserError
from tasks.util.toml_schema import PATTERN

LISTS = ("sha256sums.asc", "")
"""In a folder of releases, what names all of them: kernel.org's list, else the page of any web server."""
VERSION = re.compile(r"[0-9]+(\.[0-9]+){1,2}")


@dataclass(frozen=True, kw_only=True)
class KernelOrgSource(ServedSource):
    """kernel.org's archive of a version of the kernel, without anybody's patches.

    version: of the kernel, as 5.4.3; a profile with a `release` may leave it out.
    mirror: the address of a folder with v5.x/, v6.x/ ...; without it, kernel.org's own are asked.
    """

    version: str = field(metadata={PATTERN: VERSION})
    kind: Literal["kernel.org"] = "kernel.org"
    mirror: str = ""

    server_kind: ClassVar[str] = "kernel.org"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not VERSION.fullmatch(self.version):
            raise ValueError(f"version: expected one like 5.4.3, got {self.version!r}")

    @property
    def path(self) -> str:
        """Its path below a mirror.  Versions have a folder for each first number since 3."""
        version = self.version.removesuffix(".0") if self.version.count(".") == 2 else self.version
        return f"v{version.partition('.')[0]}.x/linux-{version}.tar.xz"

    def servers(self, access: Access) -> Mirrors:
        """Return the servers that have it; they may redirect as the profile's mirrors may."""
        urls = (self.mirror,) if self.mirror else mirrors.known().kernel_org
        return Mirrors(urls, access.mirrors.redirects)

    def label(self) -> str:
        return Path(self.path).name

    def published_path(self) -> str:
        return self.path

    @property
    def series(self) -> str:
        """The numbers that all releases of its series begin with, as 5.4."""
        return ".".join(self.version.split(".")[:2])

    def states(self, lock: Lock, access: Access) -> States | None:
        """Ask for the newest release of the series."""
        return States(self.version, self.newest(access), f"{self.server_kind}, series {self.series}")

    def newest(self, access: Access) -> str:
        """Return the newest version of its series.  Raises `UserError` if no server lists the releases."""
        folder = self.path.rpartition("/")[0]
        for name in LISTS:
            text = self.servers(access).listing(f"{folder}/{name}")
            if text is not None:
                offered = versions.named_in(text, "linux-{version}.tar.xz")
                same = [one for one in offered if one == self.series or one.startswith(f"{self.series}.")]
                return versions.newest(same, self.version)
        raise UserError(f"no server lists the releases in {folder}/", "name another one by `mirror`")
