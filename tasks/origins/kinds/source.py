# SPDX-License-Identifier: MIT
"""Origins of kind `source`: programs and libraries compiled from their source.

source.toml has the commands of each build system.  They run in the build root of a toolchain, without
this machine's programs, and by bwrap without a network.  The toolchain is the profile's
`programs_toolchain`, whose C library is as old as that of the base, unless the recipe names another.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from tasks.formats import elf
from tasks.origins.kinds.base import Resources, Unpacked
from tasks.origins.kinds.compiled import CompiledOrigin
from tasks.origins.origin_lock import OriginFile
from tasks.util import jobserver, toml_schema
from tasks.util.errors import UserError
from tasks.util.files import CHUNK, remove_tree
from tasks.util.log import logger
from tasks.util.process import run
from tasks.util.toml_schema import PATTERN

BUILD_SYSTEMS = Path(__file__).with_name("source.toml")
PREFIX = re.compile(r"/[A-Za-z0-9._/-]+")
TOOLCHAIN = re.compile(r"[a-z0-9][a-z0-9.-]*")
OPTIONS = "{options}"
FLAGS = "-O2 -ffile-prefix-map={source}=. -ffile-prefix-map={build}=."
LEFT_OUT = ("*.la", "*/share/info/dir")
"""What an installation writes for this machine alone: libtool's notes of folders, and an index of manuals."""


@dataclass(frozen=True)
class BuildSystem:
    """How one build system compiles and installs.

    compile, install: the commands; configure: that which comes first; needs: a file that the source must
    have; in_source: it compiles in the folder of the source.
    """

    compile: tuple[str, ...]
    install: tuple[str, ...]
    configure: tuple[str, ...] = ()
    needs: str = ""
    in_source: bool = False


@dataclass(frozen=True)
class BuildSystems:
    """The file source.toml."""

    autotools: BuildSystem
    cmake: BuildSystem
    meson: BuildSystem
    make: BuildSystem


@functools.cache
def build_systems() -> BuildSystems:
    """Return source.toml.  Raises `UserError` if it is malformed."""
    return toml_schema.load(BUILD_SYSTEMS, BuildSystems)


@dataclass(frozen=True, kw_only=True)
class SourceOrigin(CompiledOrigin):
    """Programs and libraries, compiled from their source.

    build: the build system.
    options: further words for `configure`, cmake or meson; for `make`, variables and goals.
    install: further words for the installation; `{into}` in them stands for the folder that becomes `/`.
    prefix: the folder that the programs expect to lie in.
    env: further environment variables, as CFLAGS.
    toolchain: the toolchain that compiles; without it, the profile's `programs_toolchain`.
    The paths in `keep`, `drop` and `rename` begin at `/`, without the slash.
    """

    build: Literal["autotools", "cmake", "meson", "make"]
    options: tuple[str, ...] = ()
    install: tuple[str, ...] = ()
    prefix: str = field(default="/usr/local", metadata={PATTERN: PREFIX})
    env: dict[str, str] = field(default_factory=dict)
    toolchain: str = field(default="", metadata={PATTERN: TOOLCHAIN})  # type: ignore[misc]
    kind: Literal["source"] = "source"

    list_command: ClassVar[str] = "see the log: the files that its installation writes"
    architectures: ClassVar[tuple[str, ...]] = ("x86_64",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.into:
            raise ValueError("into: `prefix` says where the programs lie")

    @classmethod
    def owns(cls, identity: str) -> bool:
        return False  # `archive` and `module` own what sources are locked by

    @property
    def system(self) -> BuildSystem:
        """How it is compiled."""
        found: BuildSystem = getattr(build_systems(), self.build)
        return found

    def log_names(self) -> tuple[str, ...]:
        return (f"source-{re.sub(r'[^A-Za-z0-9._+-]', '-', self.label())}",)

    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Yield the source's name and a folder with what its installation writes, stripped.

        Raises `CommandFailed` if it does not compile, and `UserError` if a result holds the path of the
        build.
        """
        log = resources.logs / f"{self.log_names()[0]}.log"
        log.unlink(missing_ok=True)
        with self.unpacked_source(resources, files, scratch) as (top, source):
            if not (source / self.system.needs).is_file():
                message = f"{self.label()} has no {self.system.needs}, which build = {self.build!r} needs"
                raise UserError(message, "correct `build`, `subfolder` or `strip` in the recipe")
            build = source if self.system.in_source else top / "build"
            build.mkdir(exist_ok=True)
            scratch.mkdir(parents=True)
            self._make(resources, source, build, scratch, log)
            made = self._stripped(resources, scratch, log)
            _refuse_paths(self.label(), made, (top, scratch))
        size = sum(path.stat().st_size for path in made)
        logger.info(f"{self.label()}: {len(made)} files installed, {size:,} bytes")
        yield self.label(), scratch

    def _make(self, resources: Resources, source: Path, build: Path, into: Path, log: Path) -> None:
        """Compile, and install into the folder `into`."""
        places: dict[str, object] = {"source": source, "build": build, "into": into, "prefix": self.prefix}
        flags = _filled(FLAGS, places)
        env = {"CFLAGS": flags, "CXXFLAGS": flags, "SOURCE_DATE_EPOCH": str(resources.epoch)}
        env |= {name: _filled(value, places) for name, value in self.env.items()}
        system, hint = self.system, "correct `build`, `options`, `install` or `env` in the recipe"
        for step in filter(None, (system.configure, system.compile, system.install)):
            last = step is system.install
            words = [*_with_options(step, self.options), *(self.install if last else ())]
            # make takes part in the jobserver; ninja does not.
            make = jobserver.slots() if step[0] == "make" and not last else 0
            with jobserver.tokens(0 if step[0] == "ninja" else 1) as jobs:
                run(
                    [_filled(word, places | {"jobs": jobs}) for word in words],
                    cwd=build,
                    env=env | ({"DESTDIR": str(into)} if last and not system.in_source else {}),
                    log=log,
                    jobs=make,
                    hint=hint,
                    box=resources.box(()),
                )

    def _stripped(self, resources: Resources, folder: Path, log: Path) -> list[Path]:
        """Strip programs and libraries, remove what is of use here alone, and return the files."""
        for pattern in LEFT_OUT:
            for path in folder.rglob(pattern.rpartition("/")[2]):
                if path.match(pattern):
                    remove_tree(path)
        made = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        programs = [path for path in made if elf.is_elf(path) and elf.program_machine(path)]
        if programs:
            run(["strip", "--strip-unneeded", *programs], box=resources.box(()), log=log)
        return made


def _with_options(step: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return the words of a step with the recipe's options in their place."""
    return [word for one in step for word in (options if one == OPTIONS else (one,))]


def _filled(word: str, places: Mapping[str, object]) -> str:
    for name, value in places.items():
        word = word.replace(f"{{{name}}}", str(value))
    return word


def _refuse_paths(label: str, files: Sequence[Path], folders: Sequence[Path]) -> None:
    """Raise `UserError` if a file has the path of a folder of the build: it differs in each build."""
    for path in files:
        for folder in folders:
            if _holds(path, str(folder).encode()):
                hint = "the source writes it by itself: `options`, `env` or `drop` in the recipe may help"
                raise UserError(f"{label}: {path.name} holds the path that it was built in", hint)


def _holds(path: Path, wanted: bytes) -> bool:
    """Tell whether a file has these bytes."""
    tail = b""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            if wanted in tail + chunk:
                return True
            tail = chunk[-len(wanted) :]
    return False
