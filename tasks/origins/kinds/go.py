# SPDX-License-Identifier: MIT
"""Origins of kind `go`: programs compiled from a Go module.

The module is built as the main module, so its `replace` lines count.  Its own go.sum has the hash of
each module that it needs.  The recipe's lock has the zips of all modules that the programs are made
of, each with its h1, the go.mod files that say which versions these are, and the Go toolchain.  These
files lie in the cache as those of other kinds.  A build makes a module proxy of them and has no other.
It begins with an empty module cache, so go compares each of these modules with go.sum again.  That is
all that `go mod verify` would do; it would also want the go.mod files of modules that no program needs.
"""

from __future__ import annotations

import functools
import io
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from tasks.formats import go_module, licence_text
from tasks.formats.archive import unpack_tar
from tasks.formats.go_module import Module
from tasks.origins import go_command, versions
from tasks.origins.go_command import Folders, GoCommand
from tasks.origins.kinds.base import LockedOrigin, PackageName, Resources, Unpacked
from tasks.origins.origin_lock import OriginFile, entry_of, missing_files, store, store_locked
from tasks.util import jobserver
from tasks.util.errors import UserError
from tasks.util.files import scratch_folder
from tasks.util.log import logger
from tasks.util.toml_schema import PATTERN, read_toml

RELEASE = re.compile(r"1\.[0-9]+(\.[0-9]+|rc[0-9]+)?")
TAG = re.compile(r"[A-Za-z0-9_.]+")
PACKAGE = re.compile(r"\.(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*")
VERSION = "{version}"
MODS = ".mods.tar"
RELOCK = "lock it again: ./doit lock:NAME relock=1"
HINT = "correct `packages`, `tags`, `cgo` or `go` in the recipe, or choose another version"
# What `go list` prints of a package whose module go.mod replaces by a folder.
LOCAL = "{{with .Module}}{{with .Replace}}{{if not .Version}}{{.Path}}{{end}}{{end}}{{end}}"


def default_release() -> str:
    """Return the Go release that recipes are locked with if they name none."""
    return str(_default()["release"])


@functools.cache
def _default() -> dict[str, Any]:
    return read_toml(Path(__file__).with_name("go.toml"))


@dataclass(frozen=True, kw_only=True)
class GoOrigin(LockedOrigin):
    """Programs of a Go module, compiled by a locked Go toolchain.

    module: the path of the module, as github.com/moby/buildkit.  Its version is without the v.
    packages: the programs to compile, each the path of its package in the module, as ./cmd/buildctl.
    A program has the name of its package's folder.
    go: the Go release that compiles them; without it, the one that the lock has.
    tags: build tags.
    ldflags: flags of Go's linker; `{version}` stands for the version.
    cgo: whether C code is compiled, too.
    """

    module: str = field(metadata={PATTERN: go_module.PATH})
    packages: tuple[str, ...]
    go: str = field(default="", metadata={PATTERN: RELEASE})
    tags: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()
    cgo: bool = False
    into: str = "usr/local/bin"
    kind: Literal["go"] = "go"

    list_command: ClassVar[str] = "go list ./..."
    toolchain: ClassVar[str] = "debian12-go"
    architectures: ClassVar[tuple[str, ...]] = ("x86_64",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, form in (("packages", PACKAGE), ("tags", TAG)):
            for value in getattr(self, key):
                if not form.fullmatch(value):
                    raise ValueError(f"{key}: expected {form.pattern}, got {value!r}")
        if not go_module.VERSION.fullmatch(self.main.version):
            raise ValueError(f"version: expected one like 1.2.3, without the v, got {self.version!r}")

    @property
    def main(self) -> Module:
        """The module with the programs."""
        return Module(self.module, f"v{self.version}")

    def identity(self) -> str:
        return f"go:{self.main}"

    @classmethod
    def owns(cls, identity: str) -> bool:
        return identity.startswith("go:")

    @classmethod
    def package_name(cls, identity: str, file_name: str) -> PackageName | None:
        found = go_module.of_file_name(file_name)
        if found is None:
            return None
        namespace, _, name = found.path.rpartition("/")
        return PackageName("golang", namespace, name, found.version, {})

    @classmethod
    def stated_licence(cls, path: Path) -> str:
        """Return the licences of the licence files at the top of a module's zip."""
        return licence_text.of_zip(path) if path.suffix == ".zip" else ""

    def locked_by(self) -> tuple[object, ...]:
        return (frozenset(self.packages), frozenset(self.tags), self.cgo, self.go)

    def log_names(self) -> tuple[str, ...]:
        return (f"go-{self.main.file_name.removesuffix('.zip')}",)

    def pin(self, resources: Resources, scratch: Path) -> tuple[OriginFile, ...]:
        """Fetch the module, the modules its programs need and Go into the cache; return their entries.

        Raises `UserError` if one is not available, or is not what the checksum database or the
        module's go.sum says.
        """
        toolchain = self._pin_toolchain(resources, scratch)
        go = go_command.installed(resources.cache, toolchain.cached_in(resources.cache))
        folders = Folders(scratch / "work")
        self._load(go, folders, go_command.user_settings())
        entries = [toolchain]
        for name, file in sorted(self._loaded(folders).items()):
            entry = self._entry(name, file)
            entries.append(entry)
            store(resources.cache, entry, file)
        for entry in entries:
            if entry.name in (self.main.file_name, toolchain.name):
                logger.info(f"lock: {entry.name}  {entry.size:,} bytes  {entry.h1}")
        # Beside these two and the archive of go.mod files.
        others, size = len(entries) - 3, sum(entry.size for entry in entries)
        logger.info(f"lock: {others} modules it needs, {size:,} bytes in all, checked by its go.sum")
        return tuple(entries)

    def newest(self, resources: Resources, files: tuple[OriginFile, ...]) -> str:
        """Return the newest version of the module that the module proxy has."""
        with scratch_folder(resources.cache / "downloads", "go") as scratch:
            go, folders = self._any_go(resources, files), Folders(scratch)
            settings = go_command.user_settings() | {"GOFLAGS": "-mod=mod -modcacherw"}
            found = go.run(
                *("list", "-m", "-f={{.Version}}", f"{self.module}@latest"),
                what=f"go cannot tell the newest version of {self.module}",
                env=folders.environment(cgo=False) | settings,
                cwd=scratch,
            )
        return versions.newest([found.strip().removeprefix("v")], self.version)

    def _any_go(self, resources: Resources, files: Sequence[OriginFile]) -> GoCommand:
        """Return a go command that asks a proxy: the locked one if it is in the cache, else the root's."""
        for file in files:
            module = go_module.of_file_name(file.name)
            if module and module.path == go_command.TOOLCHAIN and file.is_cached_in(resources.cache):
                return go_command.installed(resources.cache, file.cached_in(resources.cache))
        return go_command.outside(resources.program(self.toolchain, "go"))

    def _entry(self, name: str, path: Path) -> OriginFile:
        h1 = go_module.h1(path) if path.suffix == ".zip" else ""
        return replace(entry_of(self.identity(), name, path), h1=h1)

    def _pin_toolchain(self, resources: Resources, scratch: Path) -> OriginFile:
        """Return the lock entry of the Go toolchain, which lies in the cache then."""
        known, release = _default(), go_command.toolchain(self.go or default_release())
        path = scratch / release.file_name
        if self.go in ("", known["release"]):
            entry = OriginFile(self.identity(), path.name, known["sha256"], known["size"], known["h1"])
            if entry.is_cached_in(resources.cache):
                return entry
            self._fetch_toolchain(resources, release, path, scratch / "go", go_command.user_settings())
            store_locked(resources.cache, entry, path, "the Go module proxy")
            return entry
        self._fetch_toolchain(resources, release, path, scratch / "go", go_command.user_settings())
        entry = self._entry(path.name, path)
        store(resources.cache, entry, path)
        return entry

    def fetch(self, resources: Resources, files: tuple[OriginFile, ...]) -> None:
        """Fetch the locked modules and the locked Go into the cache.

        Raises `UserError` if one is not available or is another one, and if one is missing while
        `offline` is set.
        """
        missing = missing_files(files, resources.cache, offline=resources.offline)
        if not missing:
            return
        # The lock says what each file is, so the checksum database is not asked.
        settings = go_command.user_settings() | {"GOSUMDB": "off"}
        with scratch_folder(resources.cache / "downloads", "go") as scratch:
            locked, release = {file.name: file for file in files}, self._release(files)
            path = locked[release.file_name].cached_in(resources.cache)
            if locked[release.file_name] in missing:
                found = scratch / release.file_name
                self._fetch_toolchain(resources, release, found, scratch / "go", settings)
                store_locked(resources.cache, locked[release.file_name], found, "the Go module proxy")
                missing.remove(locked[release.file_name])
            if not missing:
                return
            go, folders = go_command.installed(resources.cache, path), Folders(scratch / "work")
            kept = [file for file in files if file not in missing]
            self._make_proxy(resources.cache, kept, folders)
            asked = go.run("env", "GOPROXY", what="go has no settings", env=settings, cwd=scratch).strip()
            settings["GOPROXY"] = f"file://{folders.proxy},{asked}"
            self._load(go, folders, settings)
            loaded = self._loaded(folders)
            for file in missing:
                if file.name not in loaded:
                    message = f"{self.identity()} is locked with {file.name}, which its programs do not need"
                    raise UserError(message, RELOCK)
                store_locked(resources.cache, file, loaded[file.name], "the Go module proxy")

    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Yield the module and a folder with the programs, compiled from the locked modules.

        Raises `UserError` if a module is not locked, is not what the module's go.sum says, or if
        something does not compile.
        """
        release = self._release(files)
        path = next(file for file in files if file.name == release.file_name).cached_in(resources.cache)
        go = go_command.installed(resources.cache, path)
        log = resources.logs / f"{self.log_names()[0]}.log"
        log.unlink(missing_ok=True)
        with scratch_folder(scratch.parent, "go") as top:
            folders = Folders(top)
            self._make_proxy(resources.cache, files, folders)
            locked = go_command.LOCKED_ONLY | {"GOPROXY": f"file://{folders.proxy}"}
            self._load(go, folders, locked, f"packages, tags, cgo or go may have changed; {RELOCK}")
            env = go_command.LOCKED_ONLY | folders.environment(cgo=self.cgo) | {"GOPROXY": "off"}
            env |= {"GOCACHE": str(resources.kept or folders.top / "compiled")}
            box = resources.box([go.root])
            self._compile(go, folders, scratch / self.into, env, box, log)
        yield str(self.main), scratch

    def _compile(
        self, go: GoCommand, folders: Folders, into: Path, env: Mapping[str, str], box: list[str], log: Path
    ) -> None:
        """Compile the programs into the new folder `into`."""
        into.mkdir(parents=True)
        linker = " ".join(self.ldflags).replace(VERSION, self.version)
        with jobserver.tokens() as jobs:
            go.run(
                *("build", "-trimpath", "-buildvcs=false", f"-p={jobs}"),
                *(f"-tags={','.join(self.tags)}", f"-ldflags={linker}", "-o", str(into), *self.packages),
                what=f"{self.identity()} does not compile",
                hint="correct `packages`, `tags`, `ldflags` or `cgo` in the recipe",
                env=dict(env) | {"GOMAXPROCS": str(jobs)},
                cwd=folders.main,
                box=box,
                log=log,
            )
        made = sorted(into.iterdir())
        if len(made) != len(self.packages):
            message = f"{self.identity()}: of {len(self.packages)} packages only {len(made)} gave a program: "
            hint = "each of `packages` must be a program, with a folder's name that no other one has"
            raise UserError(message + ", ".join(path.name for path in made), hint)
        sizes = [f"{path.name} {path.stat().st_size:,} bytes" for path in made]
        logger.info(f"{self.identity()}: {', '.join(sizes)}")

    def _release(self, files: tuple[OriginFile, ...]) -> Module:
        """Return the locked Go toolchain.  Raises `UserError` if it is not the one the recipe names."""
        found = [module for file in files if (module := go_module.of_file_name(file.name))]
        locked = next((module for module in found if module.path == go_command.TOOLCHAIN), None)
        if locked is None or (self.go and locked != go_command.toolchain(self.go)):
            raise UserError(f"{self.identity()}: Go {self.go or default_release()} is not locked", RELOCK)
        return locked

    def _fetch_toolchain(
        self, resources: Resources, release: Module, path: Path, top: Path, settings: Mapping[str, str]
    ) -> None:
        """Fetch a Go toolchain's zip to `path` with the go command of the build root."""
        folders = Folders(top)
        go = go_command.outside(resources.program(self.toolchain, "go"))
        go.download(release, folders, folders.environment(cgo=False) | dict(settings))
        os.replace(folders.downloads / release.at("zip"), path)

    def _load(self, go: GoCommand, folders: Folders, settings: Mapping[str, str], hint: str = HINT) -> None:
        """Fill the module cache with the main module and what its programs need.

        settings: the go command's, which say where modules come from; hint: what helps if that is not at
        fault.
        """
        env = folders.environment(cgo=self.cgo) | dict(settings)
        try:
            go.download(self.main, folders, env, hint)
            os.rename(folders.modules / go_module.escaped(str(self.main)), folders.main)
            if not (folders.main / "go.mod").is_file():
                message = f"{self.main} has no go.mod, so nothing says what it needs"
                raise UserError(message, "choose a newer version")
            local = go.run(
                *("list", "-deps", f"-f={LOCAL}", f"-tags={','.join(self.tags)}", *self.packages),
                what=f"go cannot load {self.identity()}",
                hint=hint,
                env=env,
                cwd=folders.main,
            ).splitlines()
        except UserError as error:
            raise go_command.explained(self.main, error) from None
        folder = next(filter(None, local), "")
        if folder:
            raise go_command.replaced_by_folder(self.main, folder)

    def _loaded(self, folders: Folders) -> dict[str, Path]:
        """Return the zips of the module cache, and one archive of its go.mod files, by their names."""
        top = folders.downloads
        zips = {str(path.relative_to(top)): path for path in top.glob("**/@v/*.zip")}
        found = {go_module.of_proxy_path(name).file_name: path for name, path in zips.items()}
        name = self.main.file_name.removesuffix(".zip") + MODS
        found[name] = folders.top / name
        with tarfile.open(found[name], "w", format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(top.glob("**/@v/*.mod")):
                content = path.read_bytes()
                member = tarfile.TarInfo(str(path.relative_to(top)))
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return found

    def _make_proxy(self, cache: Path, files: Sequence[OriginFile], folders: Folders) -> None:
        """Lay locked files out as a module proxy."""
        mods = [file for file in files if file.name.endswith(MODS)]
        for file in mods:
            unpack_tar(file.cached_in(cache), folders.proxy, label=file.name)
        for file in files:
            module = go_module.of_file_name(file.name)
            if module is None or module.path == go_command.TOOLCHAIN:
                continue
            path = folders.proxy / module.at("zip")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(file.cached_in(cache))
        info = folders.proxy / self.main.at("info")
        if (folders.proxy / self.main.at("zip")).exists():
            info.write_text(f'{{"Version":"{self.main.version}"}}')
