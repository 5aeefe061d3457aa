# SPDX-License-Identifier: MIT
"""Origins of kind `module`: kernel modules that are not part of the kernel's own source.

They are built against the profile's kernel by its own make (kernel Documentation,
kbuild/modules.rst).  tasks/kernel/external_modules.py does that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tasks.formats import licence_text
from tasks.origins.kinds.base import PackageName, Resources, Unpacked
from tasks.origins.kinds.compiled import CompiledOrigin
from tasks.origins.origin_lock import OriginFile
from tasks.origins.source_trees import GIT

SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")
OWN = ("M", "O", "ARCH", "CC", "HOSTCC", "KCFLAGS", "KAFLAGS", "LOCALVERSION")
"""Variables of make that tcbuild sets, and the same for the kernel."""


@dataclass(frozen=True, kw_only=True)
class ModuleOrigin(CompiledOrigin):
    """Kernel modules, built against the profile's kernel.  The recipe's folder is called NAME-KERNEL.

    make: further variables for make, each as NAME=VALUE.
    """

    make: tuple[str, ...] = ()
    kind: Literal["module"] = "module"

    list_command: ClassVar[str] = "see the log: its modules lie in kernel/extra"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.into:
            raise ValueError("into: modules go to where depmod looks for them")
        for word in self.make:
            if not SETTING.fullmatch(word) or word.partition("=")[0] in OWN:
                raise ValueError(f"make: expected NAME=VALUE, and none of {', '.join(OWN)}, got {word!r}")

    @classmethod
    def owns(cls, identity: str) -> bool:
        return identity.startswith(GIT)

    @classmethod
    def package_name(cls, identity: str, file_name: str) -> PackageName | None:
        url, _, commit = identity.removeprefix(GIT).rpartition("@")
        name = file_name.removesuffix(f"-{commit}.tar")
        return PackageName("generic", None, name, commit, {"vcs_url": f"git+{url}@{commit}"})

    @classmethod
    def stated_licence(cls, path: Path) -> str:
        return licence_text.of_tar(path)

    def log_names(self) -> tuple[str, ...]:
        return (f"module-{re.sub(r'[^A-Za-z0-9._+-]', '-', self.label())}",)

    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Yield the source's name and a folder with the modules, below usr/local/lib/modules/RELEASE.

        Raises `UserError` if they do not compile, or do not fit the kernel.
        """
        log = resources.logs / f"{self.log_names()[0]}.log"
        log.unlink(missing_ok=True)
        with self.unpacked_source(resources, files, scratch) as (_, folder):
            resources.modules(folder, self.make, log, scratch)
        yield self.label(), scratch
