# SPDX-License-Identifier: MIT
"""Origins of kind `npm`: a package and the tree of packages it depends on.

The package defines that tree: every `npm-shrinkwrap.json` in it lists packages by their
folders, each with its version and sha512 (tasks/formats/shrinkwrap.py).  When the origin is
pinned, npm downloads the tarballs, and each is checked against that sha512.  From then on the
sha256 in the recipe's lock decides.  This module assembles the tree without network and
without npm.  It runs no install script of any package; node-gyp compiles the native modules
that the recipe names in `build`.

Node.js, npm, node-gyp and Node's headers come from the extension that the recipe names in
`node`, so the compiled modules match the Node.js that they run on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from tasks.formats.archive import unpack_tar
from tasks.formats.shrinkwrap import NODE_MODULES, SHRINKWRAP, Package, file_name, flat, read_shrinkwrap
from tasks.origins import versions
from tasks.origins.kinds.base import PACKAGE, LockedOrigin, PackageName, Resources, Unpacked
from tasks.origins.kinds.wheel import WheelOrigin
from tasks.origins.origin_lock import OriginFile, entry_of, missing_files, store, store_locked
from tasks.util import jobserver
from tasks.util.errors import DiskFull, UserError
from tasks.util.files import remove_tree, scratch_folder
from tasks.util.log import logger
from tasks.util.process import run
from tasks.util.toml_schema import PATTERN

FILE = re.compile(r"(?:(@[^+]+)\+)?([^+]+)@([^@]+)\.tgz")  # as `file_name` names tarballs
MAX_TEXT = 1 << 20  # bytes of package.json that are read
# The machine's settings say how to reach the registry, as they do for pip.  Tokens are not
# taken from the environment, because messages show failed commands: npm reads ~/.npmrc itself.
NPM_SETTINGS = re.compile(r"(?i)npm_config_(registry|cafile|(https?.)?proxy|noproxy|userconfig)")
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, kw_only=True)
class NpmOrigin(LockedOrigin):
    """An npm package and the tree of packages that its own npm-shrinkwrap.json lists.

    package: the name of the package in npm's registry.
    node: the extension whose wheel holds the Node.js that the package runs on.
    build: names of packages of the tree that are native modules, to be compiled for that Node.js.
    skip: shell patterns of names of packages that are not installed, nor what only they need.
    """

    package: str = field(metadata={PATTERN: PACKAGE})
    node: str
    build: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    kind: Literal["npm"] = "npm"

    list_command: ClassVar[str] = "tar -tf"

    def identity(self) -> str:
        return f"npm:{self.package}@{self.version}"

    @classmethod
    def owns(cls, identity: str) -> bool:
        return identity.startswith("npm:")

    @classmethod
    def package_name(cls, identity: str, file_name: str) -> PackageName | None:
        found = FILE.fullmatch(file_name)
        return PackageName("npm", found[1], found[2], found[3], {}) if found else None

    @classmethod
    def stated_licence(cls, path: Path) -> str:
        """Return `license` in the package.json at the top of a tarball."""
        with tarfile.open(path) as tar:
            text = next((_text(tar, one) for one in tar if _is_package_json(one)), "")
        try:
            said = json.loads(text).get("license", "") if text else ""
        except (ValueError, AttributeError):
            return ""
        return said if isinstance(said, str) else ""

    def log_names(self) -> tuple[str, ...]:
        return tuple(self._log_name(package) for package in self.build)

    def _log_name(self, package: str) -> str:
        return f"npm-{flat(self.package)}-{flat(package)}"

    def pin(self, resources: Resources, scratch: Path) -> tuple[OriginFile, ...]:
        """Download the package and its tree into the cache, and return their lock entries.

        Raises `UserError` if npm cannot fetch one, or if its sha512 is not that of the shrinkwrap.
        """
        with self._tools(resources, fetch=True) as tools:
            top = tools.pack([f"{self.package}@{self.version}"], scratch / "top")[0]
            unpack_tar(top, scratch / "tree", strip=1)
            packages = {one.file_name: one for one in self._packages(scratch / "tree")}
            specs = [f"{one.name}@{one.version}" for one in packages.values()]
            found = tools.pack(specs, scratch / "packages")
        for path, package in zip(found, packages.values(), strict=True):
            digest = hashlib.sha512(path.read_bytes()).hexdigest()
            if digest != package.sha512:
                message = f"{package.name}@{package.version}: sha512 is {digest[:16]}…, "
                message += f"{self.identity()} says {package.sha512[:16]}…"
                raise UserError(message, "npm's registry serves another file than the package was made with")
        names = [file_name(self.package, self.version), *packages]
        paths = [top, *found]
        entries = [entry_of(self.identity(), name, path) for path, name in zip(paths, names, strict=True)]
        for entry, path in zip(entries, paths, strict=True):
            store(resources.cache, entry, path)
        # npm compares a package with the sha512 in its registry's description of it.
        size = sum(entry.size for entry in entries)
        logger.info(
            f"lock: {names[0]}  {entries[0].size:,} bytes  checked by npm  sha256 {entries[0].sha256}"
        )
        text = (
            f"lock: {len(found)} packages it depends on, {size:,} bytes in all, checked by its {SHRINKWRAP}"
        )
        logger.info(text)
        return tuple(entries)

    def newest(self, resources: Resources, files: tuple[OriginFile, ...]) -> str:
        """Return the version that the registry calls the latest, if it is newer."""
        with self._tools(resources, fetch=True) as tools:
            return versions.newest([tools.latest(self.package)], self.version)

    def fetch(self, resources: Resources, files: tuple[OriginFile, ...]) -> None:
        """Fetch the locked tarballs into the cache.

        Raises `UserError` if npm fetches none or another one, and if one is missing while
        `offline` is set.
        """
        missing = missing_files(files, resources.cache, offline=resources.offline)
        if not missing:
            return
        with (
            self._tools(resources, fetch=True) as tools,
            scratch_folder(resources.cache / "downloads", "npm") as folder,
        ):
            found = tools.pack([_spec(file) for file in missing], folder)
            for path, file in zip(found, missing, strict=True):
                store_locked(resources.cache, file, path, "npm's registry")

    def unpack(self, resources: Resources, files: tuple[OriginFile, ...], scratch: Path) -> Unpacked:
        """Yield the package's name and a folder with all of it.

        Raises `UserError` if a tarball of the tree is not locked, and if a module does not compile.
        """
        cached = {file.name: file.cached_in(resources.cache) for file in files}
        tree = scratch / self.into
        unpack_tar(cached[file_name(self.package, self.version)], tree, strip=1)
        packages = self._packages(tree)
        for package in packages:
            if package.file_name not in cached:
                message = f"{self.identity()} needs {package.name}@{package.version}, which is not locked"
                raise UserError(message, "lock it again: ./doit lock:NAME relock=1")
            unpack_tar(cached[package.file_name], tree / package.folder, strip=1)
        logger.info(f"{self.identity()}: {len(packages)} packages unpacked")
        # Tarballs of a registry have arbitrary modes.  npm sets these, whatever the umask is.
        for path in tree.rglob("*"):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        self._compile(resources, tree, packages)
        yield self.package, scratch

    def _compile(self, resources: Resources, tree: Path, packages: Sequence[Package]) -> None:
        """Compile the packages that the recipe names in `build`; keep only the compiled modules."""
        wanted = [package for package in packages if package.name in self.build]
        absent = set(self.build) - {package.name for package in wanted}
        if absent:
            message = f"{self.identity()} has no package {', '.join(sorted(absent))} in its tree"
            raise UserError(message, "correct `build` in the recipe")
        if not wanted:
            return
        with self._tools(resources, fetch=False) as tools:
            for package in wanted:
                log = resources.logs / f"{self._log_name(package.name)}.log"
                # A child of Node.js does not inherit the jobserver's pipe, so make gets its own number.
                with jobserver.tokens() as jobs:
                    box = resources.box([tools.home])
                    built = tools.compile(tree / package.folder, box, log, jobs)
                logger.info(f"{package.name}: {', '.join(path.name for path in built)} compiled")

    def _packages(self, tree: Path) -> list[Package]:
        """Return all packages that the shrinkwraps of an unpacked package list, parents first."""
        found = []
        for path in sorted(tree.rglob(SHRINKWRAP)):
            where = path.parent.relative_to(tree)
            if NODE_MODULES in where.parts:
                continue  # of a package that includes its own tree
            what = f"{self.identity()}: {where / SHRINKWRAP}"
            for one in read_shrinkwrap(path.read_bytes(), self.skip, what):
                found.append(Package(str(where / one.folder), one.name, one.version, one.sha512))
        return found

    @contextmanager
    def _tools(self, resources: Resources, *, fetch: bool) -> Iterator[_Tools]:
        """Unpack and yield the Node.js of the extension `node`; with `fetch`, fetch it first."""
        origins = resources.recipe(self.node)
        wheels = [(one, files) for one, files in origins if isinstance(one, WheelOrigin)]
        if not wheels:
            hint = "name an extension that has one in `node`"
            raise UserError(f"the recipe of {self.node} has no origin of kind wheel", hint)
        source, files = wheels[0]
        if not files:
            message = f"no sha256 is locked for {source.identity()}, which npm runs on"
            raise UserError(message, f"./doit lock:{self.node}")
        if fetch:
            source.fetch(resources, files)
        if not files[0].is_cached_in(resources.cache):
            raise UserError(f"{files[0].name} is not in the cache", f"./doit fetch:{self.node}")
        with tempfile.TemporaryDirectory(prefix="tcbuild-node-") as folder:
            for _, unpacked in source.unpack(resources, files, Path(folder, "wheel")):
                found = sorted(unpacked.glob("*/bin/node"))
                if len(found) != 1:
                    raise UserError(f"{files[0].name} holds no bin/node", f"see the recipe of {self.node}")
                yield _Tools(found[0].parent.parent)


@dataclass(frozen=True)
class _Tools:
    """Node.js as unpacked from its wheel; `home` holds bin/, include/ and lib/."""

    home: Path

    @property
    def npm(self) -> Path:
        return self.home / "lib" / NODE_MODULES / "npm"

    def node(self, *words: str | Path, failure: str = "", **options: Any) -> str:
        """Run a script with this Node.js and return its standard output; `failure`: the error's message."""
        env = {"PATH": f"{self.home / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin", **options.pop("env", {})}
        try:
            return run([self.home / "bin/node", *words], env=env, **options).stdout
        except DiskFull:
            raise
        except UserError as error:
            raise UserError(failure or error.message, error.hint, error.detail) from None

    def latest(self, package: str) -> str:
        """Return the version of a package that npm installs if none is named."""
        with tempfile.TemporaryDirectory(prefix="tcbuild-npm-") as folder:
            said = self._npm(
                *("view", "--json", package, "version"),
                folder=Path(folder),
                failure=f"npm cannot tell the newest version of {package}",
            )
        try:
            return str(json.loads(said))
        except ValueError:
            raise UserError(f"npm cannot tell the newest version of {package}: {said[:60]!r}") from None

    def _npm(self, *words: str | Path, folder: Path, failure: str) -> str:
        """Run npm, which may use the network, in `folder`; return its standard output."""
        env = {name: value for name, value in os.environ.items() if NPM_SETTINGS.fullmatch(name)}
        # Node.js has its own list of certificate authorities; the machine's list may have more.
        env["NODE_EXTRA_CA_CERTS"] = os.environ.get("SSL_CERT_FILE") or AUTHORITIES
        return self.node(
            *(self.npm / "bin/npm-cli.js", *words, "--no-update-notifier", "--loglevel=error"),
            *("--cache", folder / ".npm"),
            failure=failure,
            cwd=folder,
            env=env,
            hint="check the network, and npm's settings on this machine (registry, proxy) in ~/.npmrc",
        )

    def pack(self, specs: Sequence[str], folder: Path) -> list[Path]:
        """Download the unchanged tarball of each of `specs` (NAME@VERSION) into `folder` with npm."""
        folder.mkdir(parents=True, exist_ok=True)
        if not specs:
            return []
        answer = self._npm(
            *("pack", "--json", "--ignore-scripts", "--pack-destination", str(folder), *specs),
            folder=folder,
            failure=f"npm could not fetch {specs[0]}" + (" and others" if specs[1:] else ""),
        )
        names = {entry["id"]: entry["filename"] for entry in json.loads(answer)}
        lost = [spec for spec in specs if not (folder / names.get(spec, "?")).is_file()]
        if lost:
            raise UserError(f"npm did not fetch {lost[0]}", "correct `version` in the recipe")
        return [folder / names[spec] for spec in specs]

    def compile(self, folder: Path, box: Sequence[str], log: Path, jobs: int) -> list[Path]:
        """Compile the native module in `folder`, `jobs` files at once; return the compiled modules.

        box: the words that run a command with the toolchain.  All other files of build/ are removed.
        """
        log.unlink(missing_ok=True)
        # The result must not contain paths of this machine or debug information.
        flags = f"-ffile-prefix-map={folder}=. -ffile-prefix-map={self.home}=/node -g0"
        self.node(
            *(self.npm / NODE_MODULES / "node-gyp/bin/node-gyp.js", "rebuild", "--release"),
            *(f"--nodedir={self.home}", f"--jobs={jobs}"),
            failure=f"{folder.name} could not be compiled",
            cwd=folder,
            box=box,
            log=log,
            env={"CFLAGS": flags, "CXXFLAGS": flags, "LDFLAGS": "-Wl,--build-id=none"},
            hint='a compiler is needed: toolchain = "debian12" in the profile, or apt-get install g++ make',
        )
        release = folder / "build/Release"
        built = sorted(release.glob("*.node"))
        if not built:
            raise UserError(f"node-gyp made no module in {folder.name}", f"see {log}")
        for module in built:
            run(["strip", "--strip-unneeded", module], box=box)
        for path in sorted(folder.glob("build/**/*"), reverse=True):
            if path not in built and path not in (release, *release.parents):
                remove_tree(path)
        return built


def _is_package_json(member: tarfile.TarInfo) -> bool:
    return member.isreg() and member.name.count("/") == 1 and member.name.endswith("/package.json")


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = tar.extractfile(member)
    return stream.read(MAX_TEXT).decode(errors="replace") if stream else ""


def _spec(file: OriginFile) -> str:
    """Return npm's name for the package of a locked tarball: NAME@VERSION."""
    name = file.name.removesuffix(".tgz")
    return name.replace("+", "/", 1) if name[0] == "@" else name
