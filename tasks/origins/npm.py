"""Origins of kind `npm`: a package and the tree of packages it depends on.

The package says itself what that tree is: every `npm-shrinkwrap.json` in it lists, by
the folder it goes to, each package with its version and sha512 (npm's documentation,
"package-lock.json", lockfileVersion 2 and 3).  When hashes are learnt, npm brings the
tarballs, and each is checked against that sha512; from then on the sha256 in the
recipe's lock decides.  The tree is put together here, without network and without
npm: the lists name every folder.  No install script of any package is ever run; native
modules the recipe names in `build` are compiled by node-gyp.

Node.js, npm, node-gyp and Node's headers are those of the extension the recipe names in
`node`, so that what is compiled fits the Node it will run on.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config import recipe, recipe_lock
from tasks.config.recipe import Origin
from tasks.config.recipe_lock import LockedFile, entry_of, keep, keep_locked, to_fetch
from tasks.config.settings import Settings
from tasks.formats.archive import unpack_tar
from tasks.origins import wheel
from tasks.util import jobserver
from tasks.util.errors import DiskFull, UserError
from tasks.util.files import remove_tree, scratch_folder
from tasks.util.log import logger
from tasks.util.process import run

SHRINKWRAP = "npm-shrinkwrap.json"
NODE_MODULES = "node_modules"
# What the image is, in the words of package.json's `os`, `cpu` and `libc`.
PLATFORM = {"os": "linux", "cpu": "x64", "libc": "glibc"}
NAME = re.compile(r"(@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9~-][A-Za-z0-9._~-]*")
# How to reach the registry is the machine's affair, as it is for pip.  Tokens are not taken
# from here, for commands are shown when they fail: npm reads those in ~/.npmrc itself.
NPM_SETTINGS = re.compile(r"(?i)npm_config_(registry|cafile|(https?.)?proxy|noproxy|userconfig)")
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Package:
    """One entry of a shrinkwrap: the folder it goes to (relative), its name, version, sha512 (hex)."""

    folder: str
    name: str
    version: str
    sha512: str

    @property
    def file_name(self) -> str:
        """What the tarball is called in locks and in the cache."""
        return _file_name(self.name, self.version)


def learn(settings: Settings, origin: Origin, scratch: Path) -> tuple[LockedFile, ...]:
    """Bring a package and its tree into the cache, and say what they are.

    Raises `UserError` if npm cannot bring one, or if it is not what the shrinkwrap says.
    """
    with _tools(settings, origin, fetch=True) as tools:
        top = tools.pack([f"{origin.package}@{origin.version}"], scratch / "top")[0]
        unpack_tar(top, scratch / "tree", strip=1)
        packages = {one.file_name: one for one in _packages(scratch / "tree", origin)}
        specs = [f"{one.name}@{one.version}" for one in packages.values()]
        found = tools.pack(specs, scratch / "packages")
    for path, package in zip(found, packages.values(), strict=True):
        digest = hashlib.sha512(path.read_bytes()).hexdigest()
        if digest != package.sha512:
            message = f"{package.name}@{package.version}: sha512 is {digest[:16]}…, "
            message += f"{origin.identity()} says {package.sha512[:16]}…"
            raise UserError(message, "npm's registry serves another file than the package was made with")
    names = [_file_name(origin.package, origin.version), *packages]
    paths = [top, *found]
    entries = [entry_of(origin, name, path) for path, name in zip(paths, names, strict=True)]
    for entry, path in zip(entries, paths, strict=True):
        keep(settings, entry, path)
    # npm compares a package with the sha512 in its registry's description of it.
    size = sum(entry.size for entry in entries)
    logger.info(f"lock: {names[0]}  {entries[0].size:,} bytes  checked by npm  sha256 {entries[0].sha256}")
    text = f"lock: {len(found)} packages it depends on, {size:,} bytes in all, checked by its {SHRINKWRAP}"
    logger.info(text)
    return tuple(entries)


def fetch(settings: Settings, origin: Origin, files: tuple[LockedFile, ...]) -> None:
    """Bring the locked tarballs into the cache.

    Raises `UserError` if npm brings none or another one, and with `offline` if one is not there.
    """
    missing = to_fetch(settings, files)
    if not missing:
        return
    with (
        _tools(settings, origin, fetch=True) as tools,
        scratch_folder(settings.cache / "downloads", "npm") as folder,
    ):
        found = tools.pack([_spec(file) for file in missing], folder)
        for path, file in zip(found, missing, strict=True):
            keep_locked(settings, file, path, "npm's registry")


def unpack(
    settings: Settings, origin: Origin, files: tuple[LockedFile, ...], scratch: Path
) -> Iterator[tuple[str, Path]]:
    """Yield the package's name and a folder with all of it.

    Raises `UserError` if a tarball of the tree is not locked, and if a module does not compile.
    """
    cached = {file.name: file.cached_in(settings.cache) for file in files}
    tree = scratch / origin.into
    unpack_tar(cached[_file_name(origin.package, origin.version)], tree, strip=1)
    packages = _packages(tree, origin)
    for package in packages:
        if package.file_name not in cached:
            message = f"{origin.identity()} needs {package.name}@{package.version}, which is not locked"
            raise UserError(message, "lock it anew: ./doit lock:NAME relock=1")
        unpack_tar(cached[package.file_name], tree / package.folder, strip=1)
    logger.info(f"{origin.identity()}: {len(packages)} packages unpacked")
    # Tarballs of a registry have any mode; npm itself gives these (and not those of the umask).
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    _compile(settings, origin, tree, packages)
    yield origin.package, scratch


def _compile(settings: Settings, origin: Origin, tree: Path, packages: Sequence[Package]) -> None:
    """Compile what the recipe names in `build`, and keep of that the modules alone."""
    wanted = [package for package in packages if package.name in origin.build]
    absent = set(origin.build) - {package.name for package in wanted}
    if absent:
        message = f"{origin.identity()} has no package {', '.join(sorted(absent))} in its tree"
        raise UserError(message, "correct `build` in the recipe")
    if not wanted:
        return
    with _tools(settings, origin, fetch=False) as tools:
        for package in wanted:
            log = settings.logs / f"npm-{_flat(origin.package)}-{_flat(package.name)}.log"
            # Node.js lets no child inherit the jobserver's pipe: make gets a number of its own.
            with jobserver.tokens() as jobs:
                built = tools.compile(tree / package.folder, log, jobs)
            logger.info(f"{package.name}: {', '.join(path.name for path in built)} compiled")


@dataclass(frozen=True)
class _Tools:
    """Node.js as unpacked from its wheel; `home` holds bin/, include/ and lib/."""

    home: Path

    @property
    def npm(self) -> Path:
        return self.home / "lib" / NODE_MODULES / "npm"

    def node(self, *words: str | Path, failure: str = "", **options: Any) -> str:
        """Run a script by this Node.js and return its standard output; `failure` is what its error says."""
        env = {"PATH": f"{self.home / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin", **options.pop("env", {})}
        try:
            return run([self.home / "bin/node", *words], env=env, **options).stdout
        except DiskFull:
            raise
        except UserError as error:
            raise UserError(failure or error.message, error.hint, error.detail) from None

    def pack(self, specs: Sequence[str], folder: Path) -> list[Path]:
        """Have npm bring the tarballs of NAME@VERSION each, as they are, into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        if not specs:
            return []
        env = {name: value for name, value in os.environ.items() if NPM_SETTINGS.fullmatch(name)}
        # Node.js brings its own list of authorities; the machine's may have one more.
        env["NODE_EXTRA_CA_CERTS"] = os.environ.get("SSL_CERT_FILE") or AUTHORITIES
        answer = self.node(
            self.npm / "bin/npm-cli.js",
            *("pack", "--json", "--ignore-scripts", "--no-update-notifier", "--loglevel=error"),
            *("--cache", folder / ".npm", "--pack-destination", folder),
            *specs,
            failure=f"npm could not bring {specs[0]}" + (" and others" if specs[1:] else ""),
            cwd=folder,
            env=env,
            hint="check the network, and npm's settings on this machine (registry, proxy) in ~/.npmrc",
        )
        names = {entry["id"]: entry["filename"] for entry in json.loads(answer)}
        lost = [spec for spec in specs if not (folder / names.get(spec, "?")).is_file()]
        if lost:
            raise UserError(f"npm did not bring {lost[0]}", "correct `version` in the recipe")
        return [folder / names[spec] for spec in specs]

    def compile(self, folder: Path, log: Path, jobs: int) -> list[Path]:
        """Compile the native module in `folder`, `jobs` files at once; return the modules.

        Of build/ nothing else stays.
        """
        log.unlink(missing_ok=True)
        # Neither the folder nor debug information of this machine may be in the result.
        flags = f"-ffile-prefix-map={folder}=. -ffile-prefix-map={self.home}=/node -g0"
        self.node(
            *(self.npm / NODE_MODULES / "node-gyp/bin/node-gyp.js", "rebuild", "--release"),
            *(f"--nodedir={self.home}", f"--jobs={jobs}"),
            failure=f"{folder.name} could not be compiled",
            cwd=folder,
            log=log,
            env={"CFLAGS": flags, "CXXFLAGS": flags, "LDFLAGS": "-Wl,--build-id=none"},
            hint="a compiler is needed: apt-get install g++ make",
        )
        release = folder / "build/Release"
        built = sorted(release.glob("*.node"))
        if not built:
            raise UserError(f"node-gyp made no module in {folder.name}", f"see {log}")
        for module in built:
            run(["strip", "--strip-unneeded", module])
        for path in sorted(folder.glob("build/**/*"), reverse=True):
            if path not in built and path not in (release, *release.parents):
                remove_tree(path)
        return built


@contextmanager
def _tools(settings: Settings, origin: Origin, *, fetch: bool) -> Iterator[_Tools]:
    """Yield the Node.js of the extension `origin.node`, unpacked; `fetch` brings it into the cache."""
    made = recipe.load(origin.node)
    source = next((one for one in made.origin if one.kind == "wheel"), None)
    if source is None:
        raise UserError(f"the recipe of {origin.node} takes no wheel", "`node` names an extension that does")
    files = recipe_lock.load(recipe_lock.path(origin.node)).of(source.identity())
    if not files:
        message = f"no sha256 is locked for {source.identity()}, which npm runs on"
        raise UserError(message, f"./doit lock:{origin.node}")
    if fetch:
        wheel.fetch(settings, source, files)
    if not files[0].is_whole_in(settings.cache):
        raise UserError(f"{files[0].name} is not in the cache", f"./doit fetch:{origin.node}")
    with tempfile.TemporaryDirectory(prefix="tcbuild-node-") as folder:
        for _, unpacked in wheel.unpack(settings, source, files, Path(folder, "wheel")):
            found = sorted(unpacked.glob("*/bin/node"))
            if len(found) != 1:
                raise UserError(f"{files[0].name} holds no bin/node", f"see the recipe of {origin.node}")
            yield _Tools(found[0].parent.parent)


def _packages(tree: Path, origin: Origin) -> list[Package]:
    """Return all packages that the shrinkwraps of an unpacked package want here, parents first."""
    found = []
    for path in sorted(tree.rglob(SHRINKWRAP)):
        where = path.parent.relative_to(tree)
        if NODE_MODULES in where.parts:
            continue  # of a package that came with its own tree
        for package in read_shrinkwrap(
            path.read_bytes(), origin.skip, f"{origin.identity()}: {where / SHRINKWRAP}"
        ):
            found.append(Package(str(where / package.folder), package.name, package.version, package.sha512))
    return found


def read_shrinkwrap(content: bytes, skip: Sequence[str], what: str) -> list[Package]:
    """Return the packages a shrinkwrap installs on `PLATFORM`, parents first.

    skip: patterns of names; they, and what only they need, are left out, as are
    development dependencies.  Raises `UserError`, with `what` in it, if it is malformed.
    """
    try:
        data = json.loads(content)
        entries = dict(data["packages"].items())
        return [_package(path, entries[path], what) for path in sorted(_reachable(entries, skip, what))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{what} is not a lock file of version 2 or 3: {problem}") from None


def _reachable(entries: Mapping[str, Any], skip: Sequence[str], what: str) -> set[str]:
    """Return the folders of all packages that the root depends on."""
    reached: set[str] = set()
    todo = [""]
    while todo:
        folder = todo.pop()
        entry = entries[folder]
        needed = entry.get("dependencies", {})
        optional = {
            name for name, about in entry.get("peerDependenciesMeta", {}).items() if about.get("optional")
        }
        peers = {name for name in entry.get("peerDependencies", {}) if name not in optional}
        may_lack = {*entry.get("optionalDependencies", {}), *peers}
        for name in {*needed, *may_lack}:
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in skip):
                continue
            path = _resolve(entries, folder, name)
            if path is None:
                if name not in may_lack:
                    raise UserError(f"{what} lacks {name}, which {folder or 'the package'} needs")
                continue
            if path not in reached and _fits(entries[path]):
                reached.add(path)
                todo.append(path)
    return {path for path in reached if not entries[path].get("inBundle")}


def _resolve(entries: Mapping[str, Any], folder: str, name: str) -> str | None:
    """Return where Node.js finds `name` for the package in `folder` (its modules' resolution)."""
    while True:
        path = posixpath.join(folder, NODE_MODULES, name)
        if path in entries:
            return path
        if not folder:
            return None
        folder = folder.rpartition(NODE_MODULES)[0].rstrip("/")


def _fits(entry: Mapping[str, Any]) -> bool:
    """Tell whether a package is for `PLATFORM`: a list of what it is for, or of `!` what not."""
    for key, here in PLATFORM.items():
        words = entry.get(key, [])
        words = [words] if isinstance(words, str) else words
        if f"!{here}" in words or (any(word[0] != "!" for word in words) and here not in words):
            return False
    return True


def _package(path: str, entry: Mapping[str, Any], what: str) -> Package:
    name, version = entry.get("name") or path.rpartition(f"{NODE_MODULES}/")[2], entry["version"]
    outside = {"", ".", ".."} & set(path.split("/"))
    if outside or not NAME.fullmatch(name) or not recipe.VERSION.fullmatch(version):
        raise UserError(f"{what}: {path!r} is no package that could be installed")
    for word in entry.get("integrity", "").split():
        kind, _, text = word.partition("-")
        digest = base64.b64decode(text, validate=True)
        if kind == "sha512" and len(digest) == hashlib.sha512().digest_size:
            return Package(path, name, version, digest.hex())
    raise UserError(f"{what} has no sha512 of {name}", "what nobody vouches for is not taken")


def _file_name(name: str, version: str) -> str:
    return f"{_flat(name)}@{version}.tgz"


def _flat(name: str) -> str:
    return name.replace("/", "+")  # no package's name has a "+"


def _spec(file: LockedFile) -> str:
    """Return what npm calls the package of a locked tarball: NAME@VERSION."""
    return (
        file.name.removesuffix(".tgz").replace("+", "/", 1)
        if file.name[0] == "@"
        else file.name[: -len(".tgz")]
    )
