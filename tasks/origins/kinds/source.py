# SPDX-License-Identifier: MIT
"""Origins of kind `source`: programs and libraries compiled from their source.

source.toml has the commands of each build system.  They run in the build root of a toolchain, without
this machine's programs, and by bwrap without a network.  The toolchain is the profile's
`programs_toolchain`, whose C library is as old as that of the base, unless the recipe names another.
For a build system with a compiler of its own, source.toml names a toolchain with the same C library.

cargo takes the crates that a program is made of from the recipe's lock (tasks/origins/kinds/crates.py).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from tasks.formats import cargo_lock, elf, licence_text
from tasks.origins.kinds import crates
from tasks.origins.kinds.base import PackageName, Resources, Unpacked
from tasks.origins.kinds.compiled import CompiledOrigin
from tasks.origins.kinds.module import ModuleOrigin
from tasks.origins.origin_lock import OriginFile, missing_files
from tasks.util import jobserver, toml_schema
from tasks.util.errors import UserError
from tasks.util.files import CHUNK, remove_tree, scratch_folder
from tasks.util.log import logger
from tasks.util.process import run
from tasks.util.toml_schema import PATTERN

BUILD_SYSTEMS = Path(__file__).with_name("source.toml")
PREFIX = re.compile(r"/[A-Za-z0-9._/-]+")
TOOLCHAIN = re.compile(r"[a-z0-9][a-z0-9.-]*")
OPTIONS = "{options}"
CARGO = "cargo:"
WITH_JOBSERVER = ("make", "cargo")
"""The programs that take part in the jobserver; ninja does not."""
FLAGS = "-O2 -ffile-prefix-map={source}=. -ffile-prefix-map={build}=."
LEFT_OUT = ("*.la", "*/share/info/dir")
"""What an installation writes for this machine alone: libtool's notes of folders, and an index of manuals."""


@dataclass(frozen=True)
class BuildSystem:
    """How one build system compiles and installs.

    compile, install: the commands; configure: that which comes first; needs: a file that the source must
    have; in_source: it compiles in the folder of the source.
    env: variables of the environment; crates: it compiles crates, which Cargo.lock names.
    toolchains: a toolchain for programs = the one that compiles in its stead.
    """

    compile: tuple[str, ...]
    install: tuple[str, ...]
    configure: tuple[str, ...] = ()
    needs: str = ""
    in_source: bool = False
    env: dict[str, str] = field(default_factory=dict)
    crates: bool = False
    toolchains: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildSystems:
    """The file source.toml."""

    autotools: BuildSystem
    cmake: BuildSystem
    meson: BuildSystem
    make: BuildSystem
    cargo: BuildSystem


@functools.cache
def build_systems() -> BuildSystems:
    """Return source.toml.  Raises `UserError` if it is malformed."""
    return toml_schema.load(BUILD_SYSTEMS, BuildSystems)


@dataclass(frozen=True, kw_only=True)
class SourceOrigin(CompiledOrigin):
    """Programs and libraries, compiled from their source.

    build: the build system.
    options: further words for `configure`, cmake, meson or cargo; for `make`, variables and goals.
    install: further words for the installation; `{into}` in them stands for the folder that becomes `/`.
    prefix: the folder that the programs expect to lie in.
    env: further environment variables, as CFLAGS.
    toolchain: the toolchain that compiles; without it, the profile's `programs_toolchain`.
    The paths in `keep`, `drop` and `rename` begin at `/`, without the slash.
    """

    build: Literal["autotools", "cmake", "meson", "make", "cargo"]
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

    @property
    def is_locked(self) -> bool:
        return self.source.is_locked or self.system.crates

    def identity(self) -> str:
        """Return the source's identity; that of a Rust program has entries of its own, with its crates."""
        identity = super().identity()
        if not self.system.crates:
            return identity
        return f"{CARGO}{identity}#{self.subfolder}" if self.subfolder else f"{CARGO}{identity}"

    @classmethod
    def owns(cls, identity: str) -> bool:
        # `archive` and `module` own what other sources are locked by.
        return identity.startswith(CARGO)

    @classmethod
    def address(cls, identity: str) -> str:
        return super().address(identity.removeprefix(CARGO).partition("#")[0])

    @classmethod
    def package_name(cls, identity: str, file_name: str) -> PackageName | None:
        crate = cargo_lock.of_file_name(file_name)
        if crate:
            return PackageName("cargo", None, *crate, {})
        source = identity.removeprefix(CARGO).partition("#")[0]
        return ModuleOrigin.package_name(source, file_name) if ModuleOrigin.owns(source) else None

    @classmethod
    def stated_licence(cls, path: Path) -> str:
        """Return what a crate's Cargo.toml states, or the licences of the licence files of a source."""
        is_crate = cargo_lock.of_file_name(path.name)
        return cargo_lock.stated_licence(path) if is_crate else licence_text.of_tar(path)

    def compiled_by(self, toolchain: str) -> SourceOrigin:
        """Return the origin with the toolchain that compiles it, where the recipe names none.

        toolchain: the profile's for programs.
        """
        wanted = self.toolchain or toolchain
        return replace(self, toolchain=self.system.toolchains.get(wanted, wanted))

    @property
    def system(self) -> BuildSystem:
        """How it is compiled."""
        found: BuildSystem = getattr(build_systems(), self.build)
        return found

    def locked_by(self) -> tuple[object, ...]:
        return (self.source,) if self.system.crates else ()

    def pin(self, resources: Resources, scratch: Path) -> tuple[OriginFile, ...]:
        """Fetch the source into the cache, and the crates that its Cargo.lock names; return their entries.

        Raises `UserError` if one is not available, or is not the published one.
        """
        own = super().pin(resources, scratch)
        if not self.system.crates:
            return own
        super().fetch(resources, own)  # a published sha256 locks a source that is not fetched yet
        with self._rust_program(resources, own, scratch / "content") as program:
            found = crates.pin(program, resources, self.toolchain, self.identity(), scratch / "crates")
        return tuple(replace(file, origin=self.identity()) for file in (*own, *found))

    def fetch(self, resources: Resources, files: tuple[OriginFile, ...]) -> None:
        """Fetch the locked files of the source, and the locked crates, into the cache.

        Raises `UserError` if one is not available or is another one, and if one is missing while
        `offline` is set.
        """
        super().fetch(resources, crates.of_source(files))
        missing = missing_files(crates.others(files), resources.cache, offline=resources.offline)
        if missing:
            with (
                scratch_folder(resources.cache / "downloads", "cargo") as scratch,
                self._rust_program(resources, files, scratch / "content") as program,
            ):
                crates.fetch(program, missing, resources, self.toolchain, scratch / "crates")

    @contextmanager
    def _rust_program(
        self, resources: Resources, files: tuple[OriginFile, ...], beside: Path
    ) -> Iterator[crates.Program]:
        with self.unpacked_source(resources, crates.of_source(files), beside) as (top, folder):
            yield self._program(top, folder)

    def _program(self, top: Path, folder: Path) -> crates.Program:
        """Return the Rust program in a folder of the source, which lies in `top`."""
        return crates.Program(self.label(), top / "source", folder, not self.source.is_locked)

    def log_names(self) -> tuple[str, ...]:
        return (f"source-{re.sub(r'[^A-Za-z0-9._+-]', '-', self.label())}",)

    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Yield the source's name and a folder with what its installation writes, stripped.

        Raises `CommandFailed` if it does not compile, and `UserError` if a result holds the path of the
        build.
        """
        log = resources.logs / f"{self.log_names()[0]}.log"
        log.unlink(missing_ok=True)
        with self.unpacked_source(resources, crates.of_source(files), scratch) as (top, source):
            if not (source / self.system.needs).is_file():
                message = f"{self.label()} has no {self.system.needs}, which build = {self.build!r} needs"
                raise UserError(message, "correct `build`, `subfolder` or `strip` in the recipe")
            build = source if self.system.in_source else top / "build"
            build.mkdir(exist_ok=True)
            scratch.mkdir(parents=True)
            if self.system.crates:
                crates.lay_out(self._program(top, source), files, resources.cache, top / "cargo")
            places = {"source": source, "build": build, "into": scratch, "prefix": self.prefix}
            self._make(resources, places | {"cargo": top / "cargo"}, build, log)
            made = self._stripped(resources, scratch, log)
            _refuse_paths(self.label(), made, (top, scratch))
        size = sum(path.stat().st_size for path in made)
        logger.info(f"{self.label()}: {len(made)} files installed, {size:,} bytes")
        yield self.label(), scratch

    def _make(self, resources: Resources, places: Mapping[str, object], build: Path, log: Path) -> None:
        """Compile in the folder `build`, and install.

        places: what stands for words in braces.
        """
        settings = {"CFLAGS": FLAGS, "CXXFLAGS": FLAGS, "SOURCE_DATE_EPOCH": str(resources.epoch)}
        settings |= {**self.system.env, **self.env}
        env = {name: _filled(value, places) for name, value in settings.items()}
        system, hint = self.system, "correct `build`, `options`, `install` or `env` in the recipe"
        for step in filter(None, (system.configure, system.compile, system.install)):
            last = step is system.install
            words = [*_with_options(step, self.options), *(self.install if last else ())]
            make = jobserver.slots() if step[0] in WITH_JOBSERVER and not last else 0
            with jobserver.tokens(0 if step[0] == "ninja" else 1) as jobs:
                run(
                    [_filled(word, {**places, "jobs": jobs}) for word in words],
                    cwd=build,
                    env=env | ({"DESTDIR": str(places["into"])} if last and not system.in_source else {}),
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
