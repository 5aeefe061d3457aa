# SPDX-License-Identifier: MIT
"""Kernels that others built: `kernel.source = { kind = "image", ... }`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.origins.sources import AnySource
from tasks.origins.sources.apt import AptSource
from tasks.origins.sources.file import FileSource

# Where a kernel's install has its files: ours, the kernel's own, a distribution's.
VMLINUZ = ("vmlinuz64", "vmlinuz", "vmlinuz-*", "bzImage", "boot/vmlinuz64", "boot/vmlinuz", "boot/vmlinuz-*")
MODULES = ("modules/lib/modules", "lib/modules", "usr/lib/modules", "modules")
CONFIG = ("config", "config-{release}", "boot/config-{release}")
SYSTEM_MAP = ("System.map", "System.map-{release}", "boot/System.map-{release}")
FORMS = ("package", "vmlinuz", "folder", "iso")


@dataclass(frozen=True, kw_only=True)
class KernelImage:
    """A kernel that others built: it is taken as it is, and nothing is compiled.

    It has exactly one of `package`, `vmlinuz`, `folder` and `iso`.

    package: a shell pattern of an apt package with /boot/vmlinuz-RELEASE, /boot/config-RELEASE and
    lib/modules/RELEASE; the newest match by version is taken.
    vmlinuz: the kernel's file.
    modules: beside `vmlinuz`: an archive of lib/modules/RELEASE, such as modules64.gz.  Without it,
    modules are those in `core.archives`.
    config: the config that the kernel was built from, if it holds none of its own.
    folder: a folder of this machine with vmlinuz, modules/ and config, or with /boot and /lib/modules.
    iso: an ISO whose /boot has the kernel, and a core with its modules.
    """

    kind: Literal["image"] = "image"
    package: str = ""
    vmlinuz: AnySource | None = None
    modules: AnySource | None = None
    config: AnySource | None = None
    folder: str = ""
    iso: AnySource | None = None

    def __post_init__(self) -> None:
        given = [name for name in FORMS if getattr(self, name)]
        if len(given) != 1:
            named = " and ".join(given) or "none of them"
            raise ValueError(f"kind: 'image' has one of {', '.join(FORMS)}; here is {named}")
        if self.modules and not self.vmlinuz:
            raise ValueError(f"modules: only beside vmlinuz; {given[0]} brings its own")
        for name in ("vmlinuz", "modules", "config", "iso"):
            source = getattr(self, name)
            if source is not None and source.is_package:
                raise ValueError(f"{name}: expected a file; `package` takes a kernel from a package")

    @property
    def files(self) -> dict[str, AnySource]:
        """The sources of its files by the keys above."""
        made: dict[str, AnySource] = {}
        if self.package:
            made["package"] = AptSource(package=self.package)
        if self.folder:
            made["folder"] = FileSource(path=self.folder)
        given = {"vmlinuz": self.vmlinuz, "modules": self.modules, "config": self.config, "iso": self.iso}
        return made | {name: source for name, source in given.items() if source}

    @property
    def modules_in_base(self) -> bool:
        """Whether its modules can only lie in the archives that the core begins with."""
        return self.vmlinuz is not None and self.modules is None

    @property
    def modules_trees(self) -> list[Path]:
        """The folders in `folder` that may hold modules."""
        inner = "modules/"  # is below another one of them
        names = [name for name in MODULES if not name.startswith(inner)]
        return [self.tree / name for name in names] if self.tree else []

    @property
    def folder_files(self) -> list[Path]:
        """The files in `folder` that are looked at.  It may be `/`, so no other is touched."""
        if self.tree is None:
            return []
        names = (name.format(release="*") for name in (*VMLINUZ, *CONFIG, *SYSTEM_MAP))
        found = [path for name in names for path in self.tree.glob(name)]
        found += [path for modules in self.modules_trees for path in modules.rglob("*")]
        return sorted({path for path in found if path.is_file()})

    @property
    def tree(self) -> Path | None:
        """The folder, which may be changed at any time."""
        return FileSource(path=self.folder).tree() if self.folder else None
