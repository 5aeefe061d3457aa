# SPDX-License-Identifier: MIT
"""The one place through which stages run a program whose output gets into results.

It is a program of the profile's toolchain (tasks/toolchain/entry.py): of this machine, or of a
build root.  Programs that only read, as tar(1) and sqfs2tar(1), are always this machine's.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.toolchain import build_root, entry
from tasks.toolchain.entry import Bind, Entry
from tasks.util.errors import UserError
from tasks.util.process import Result, clean_env, run


@dataclass(frozen=True)
class ReadyToolchain:
    """A toolchain whose programs can run.

    compiler: the C compiler's command; fingerprint: toolchains with different ones must not share
    objects.
    """

    compiler: str
    entry: Entry
    fingerprint: str

    def has(self, program: str) -> bool:
        """Tell whether the toolchain has `program`."""
        if self.entry.way == "host":
            return shutil.which(program, path=clean_env()["PATH"]) is not None
        return self.entry.file(f"/usr/bin/{program}").is_file()


@dataclass(frozen=True)
class Tools:
    """The programs of a profile's toolchain.  binds: what a build root shows of this machine."""

    entry: Entry
    binds: tuple[Bind, ...]

    def run(self, argv: Sequence[str | Path], *, shown: Sequence[Path] = (), **options: Any) -> Result:
        """Run a program as `process.run` does.

        It may write below the output folder.  shown: further folders and files that it reads.
        """
        return run(argv, box=self.box(shown), **options)

    def box(self, shown: Sequence[Path] = ()) -> list[str]:
        """Return the words to put before a command that runs with the toolchain (`process.run`)."""
        # What lies in a folder that is shown already stays writable there.
        known = [bind.path for bind in self.binds]
        more = [path for path in shown if not any(path.is_relative_to(one) for one in known)]
        return self.entry.box([*self.binds, *map(Bind, more)])

    def xz(self, data: bytes, level: int) -> bytes:
        """Return `data` as one xz stream that the kernel can unpack (`compression.compress`)."""
        with tempfile.NamedTemporaryFile(prefix="tcbuild-xz-") as packed:
            options = ["--stdout", "--threads=1", "--check=crc32", f"-{level}"]
            self.run(["xz", *options], stdin=data, stdout=Path(packed.name))
            return packed.read()

    def file(self, path: str) -> Path:
        """Return where the toolchain's file of the absolute `path` lies, as a boot loader."""
        return self.entry.file(path)


def of_profile(paths: Paths, profile: Profile) -> Tools:
    """Return the tools of the profile; `toolchain.prepare` must have run before.

    Raises `UserError` if the toolchain's build root is needed and does not exist.
    """
    return of_toolchain(paths, profile.toolchain)


def of_toolchain(paths: Paths, name: str, *kept: Path) -> Tools:
    """Return the tools of a toolchain; they may write below the folders `kept`, too.

    Raises `UserError` as `of_profile` does.
    """
    binds = [Bind(path, writable=True) for path in (paths.output, *kept)]
    return Tools(entry.of_toolchain(paths.cache, name), tuple(binds))


def ready(cache: Path, name: str) -> ReadyToolchain:
    """Return toolchain `name`.  Raises `UserError` if its build root is needed and does not exist."""
    found, compiler = entry.of_toolchain(cache, name), build_root.load(name).compiler
    if build_root.load(name).root is not None:
        return ReadyToolchain(compiler, found, build_root.fingerprint(name))
    version_commands = ([compiler, "-dumpfullversion"], ["ld", "-v"], ["getconf", "GNU_LIBC_VERSION"])
    gcc, linker, libc = (run(argv).stdout for argv in version_commands)
    return ReadyToolchain(compiler, found, describe(name, compiler, gcc, linker, libc))


def describe(name: str, compiler: str, gcc: str, linker: str, libc: str) -> str:
    """Return the fingerprint of this machine's programs from what they print about themselves.

    `gcc` is `-dumpfullversion`'s output, `linker` that of `ld -v` ("GNU ld (GNU
    Binutils for Debian) 2.40"), `libc` getconf's ("glibc 2.36").
    Raises `UserError` if one of them is empty.
    """
    if not (gcc.strip() and linker.strip() and libc.strip()):
        raise UserError(f"toolchain {name}: compiler, linker or C library print no version")
    return ", ".join([name, f"{compiler} {gcc.strip()}", f"ld {linker.split()[-1]}", libc.strip()])
