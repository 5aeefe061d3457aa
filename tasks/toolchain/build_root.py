# SPDX-License-Identifier: MIT
"""Toolchains: the programs that write results, those of this machine or those of a build root.

`toolchains/NAME.toml` describes a toolchain.  A build root is a folder in the cache with packages
of one suite.  `toolchains/NAME.lock.toml` names each of them with version, sha256 and address.
The packages are unpacked only: no maintainer script runs, and no root is needed.  What
update-alternatives(1) would link stands in the description.

`tasks/fetch/toolchain.py` fetches the packages, `tasks/toolchain/entry.py` runs commands in a root.

A process that uses a root holds a shared lock on the root's list of packages (flock(2)), so that
`prune` removes no root in use.  A root with damaged files is mended while others use it.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.formats.debian_package import unpack_packages
from tasks.origins.distribution import Suite
from tasks.origins.lock import Lock, LockedPackage, load_lock
from tasks.util import file_record, toml_schema
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, locked, scratch_folder
from tasks.util.log import logger

FOLDER = Path(__file__).with_name("toolchains")
HOST = "host"
LOCK = ".lock.toml"
FORMAT = 1
"""Part of a root's digest.  Raise it when a root is made otherwise from the same packages."""
PACKAGES = "packages"
"""In a root's folder: the list of its packages.  It is written last, so it marks a complete root."""
KEPT = "compiled"
"""In the cache: what compilers keep for later, a folder for each toolchain's digest."""
ROOT_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*-[0-9a-f]{16}")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
# The folders of a root that hold programs and their data.  proot(1) makes empty folders in others.
SYSTEM = ("usr", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
# A system whose /bin, /sbin and /lib are links below /usr; Debian 12's packages expect one.
MERGED = ("bin", "sbin", "lib", "lib64")
# Documentation is a third of the files.  The licences stay in the packages, which the cache keeps.
LEFT_OUT = ("./usr/share/man", "./usr/share/locale", "./usr/share/doc", "./usr/share/info", "./dev")
# The packages whose versions a fingerprint names: compiler, linker, C library.
NAMED = re.compile(r"gcc-\d+|binutils|libc6")
_whole: set[tuple[Path, bool]] = set()
"""The roots that this process has looked at, and whether it has read them."""
_held: dict[Path, int] = {}
"""What this process has a shared lock on, and the file descriptor of each."""


@dataclass(frozen=True)
class BuildRoot:
    """The packages of a build root.

    suite: where they come from.
    makers: packages with programs that write results, or with files that get into results.  A
    machine that has exactly these versions needs no root.
    helpers: what else the build runs; another version of it writes the same results.
    entry: packages with the programs that run commands in the root.
    unwanted: programs that a kernel's build would use if it found them.  A machine that has one
    needs the root.
    links: path below the root = the target of a symbolic link.
    always: the root is used on every machine, because its programs would use what else a machine has.
    versions: package = the version to lock, for those of which it is not the suite's newest.
    """

    suite: Suite
    makers: tuple[str, ...]
    helpers: tuple[str, ...] = ()
    entry: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)
    always: bool = False
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("makers", "helpers", "entry"):
            for package in getattr(self, key):
                if not PACKAGE.fullmatch(package):
                    raise ValueError(f"{key}: {package!r} is no package name")
        for package in self.versions:
            if package not in self.packages:
                raise ValueError(f"versions: {package!r} is none of makers, helpers and entry")
        for path in self.links:
            if path.startswith("/") or ".." in path.split("/"):
                raise ValueError(f"links: expected a path below the root, got {path!r}")

    @property
    def packages(self) -> tuple[str, ...]:
        """The names of all packages that the root is asked to have."""
        return (*self.makers, *self.helpers, *self.entry)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The packages as apt-get(8) is asked for them: NAME, or NAME=VERSION."""
        return tuple(
            f"{name}={self.versions[name]}" if name in self.versions else name for name in self.packages
        )


@dataclass(frozen=True)
class Toolchain:
    """One `toolchains/NAME.toml`; without `root` it means the programs of this machine.

    compiler: the C compiler's command, for CC= and HOSTCC=; empty if the toolchain has none.
    """

    description: str
    compiler: str = ""
    root: BuildRoot | None = None


def names() -> list[str]:
    """Return the names of all toolchains."""
    files = (file.name for file in FOLDER.glob("*.toml"))
    return sorted(name.removesuffix(".toml") for name in files if not name.endswith(LOCK))


def load(name: str) -> Toolchain:
    """Return the toolchain `name`.  Raises `UserError` if there is none or it is malformed."""
    if name not in names():
        raise UserError(f"unknown toolchain {name!r}", f"toolchains: {', '.join(names())}")
    return toml_schema.load(FOLDER / f"{name}.toml", Toolchain)


def lock_path(name: str) -> Path:
    """Return the path of a toolchain's lock, which is committed."""
    return FOLDER / f"{name}{LOCK}"


def lock(name: str) -> Lock:
    """Return the lock of a toolchain.

    Raises `UserError` if the toolchain has a root and nothing is locked, or a package has no entry.
    """
    remedy = f"./doit toolchain:lock {name}"
    found, root = load_lock(lock_path(name), f"restore it, or write it anew: {remedy}"), load(name).root
    known = {
        text for package in found.package for text in (package.name, f"{package.name}={package.version}")
    }
    lacking = sorted(set(root.wanted) - known) if root else []
    if lacking:
        message = f"{lock_path(name).name} has no version of {', '.join(lacking)}"
        raise UserError(message, remedy)
    return found


def digest(name: str) -> str:
    """Return what tells this toolchain from all others: its name, and for a root a digest of its inputs.

    It is the same whether this machine's programs or those of the root run.
    """
    if load(name).root is None:
        return name
    files = (FOLDER / f"{name}.toml", lock_path(name))
    states = tuple((file, file.stat().st_mtime_ns) for file in files if file.is_file())
    return f"{name}-{_digest(states)}"


@functools.cache
def _digest(states: tuple[tuple[Path, int], ...]) -> str:
    content = b"".join(file.read_bytes() for file, _ in states)
    return hashlib.sha256(f"{FORMAT}\n".encode() + content).hexdigest()[:16]


def fingerprint(name: str) -> str:
    """Return one line about a toolchain with a root; two that differ must not share objects.

    It has the versions of compiler, linker and C library, and a digest of everything.
    """
    named = [package for package in lock(name).package if NAMED.fullmatch(package.name)]
    versions = [f"{package.name} {package.version}" for package in named]
    return ", ".join([name, *versions, f"root {digest(name).rpartition('-')[2]}"])


def root_folder(cache: Path, name: str) -> Path:
    """Return where the build root `name` lies in the cache: a changed description or lock has its own."""
    return cache / "toolchains" / digest(name)


def is_made(cache: Path, name: str) -> bool:
    """Tell whether the build root of toolchain `name` is in the cache, or it has none."""
    folder = root_folder(cache, name)
    return load(name).root is None or ((folder / PACKAGES).is_file() and (folder / "root").is_dir())


def is_whole(cache: Path, name: str, *, read_all: bool = False) -> bool:
    """Tell whether the build root of toolchain `name` is made and has the files that it had then.

    A root is looked at once in a process.  read_all: as in `faults`.
    """
    folder = root_folder(cache, name)
    if load(name).root is None or (folder, True) in _whole or (folder, read_all) in _whole:
        return True
    if not is_made(cache, name) or faults(folder, read_all=read_all):
        return False
    _whole.add((folder, read_all))
    return True


def faults(folder: Path, *, read_all: bool = False) -> list[str]:
    """Return the paths in the build root `folder` that are damaged, missing or too many.

    read_all: whether each file is read, and not only those whose size or times have changed.  See
    `file_record.faults`.
    """
    return file_record.faults(folder, alone_in=SYSTEM, read_all=read_all)


def ensure(cache: Path, name: str, *, read_all: bool = False) -> Path:
    """Return the build root of toolchain `name`: make it from cached packages, or mend it, if need be.

    No other run removes it before the end of this process.  read_all: as in `faults`.  Raises
    `UserError` if a package is not in the cache, or is damaged.
    """
    folder = root_folder(cache, name)
    while not (is_whole(cache, name, read_all=read_all) and hold(cache, name)):
        with locked(folder.with_name(".lock")):
            # Another build may have made it meanwhile.
            if not is_made(cache, name):
                _make(cache, folder, name)
            elif bad := faults(folder, read_all=read_all):
                _mend(cache, folder, name, bad)
    return folder / "root"


def _make(cache: Path, folder: Path, name: str) -> None:
    packages, wanted = _cached_packages(cache, name), load(name).root
    assert wanted is not None
    logger.info(f"toolchain {name}: unpacking {len(packages)} packages of {wanted.suite} (once)")
    started = time.monotonic()
    with atomic_dir(folder) as partial:
        _fill(partial, name, packages)
    logger.info(f"toolchain {name}: ready after {time.monotonic() - started:.0f} s")


def _mend(cache: Path, folder: Path, name: str, bad: list[str]) -> None:
    packages = _cached_packages(cache, name)
    said = f"the build root of toolchain {name}: {file_record.told(bad)}"
    logger.warning(f"{said}; unpacking {len(packages)} packages again")
    with scratch_folder(folder.parent, folder.name) as scratch:
        _fill(scratch, name, packages)
        file_record.mend(folder, scratch, alone_in=SYSTEM)


def _cached_packages(cache: Path, name: str) -> list[Path]:
    """Return the packages of a toolchain.  Raises `UserError` if the cache lacks some."""
    packages = [package.cached_in(cache) for package in lock(name).package]
    absent = [path for path in packages if not path.is_file()]
    if absent:
        fault = "damaged in the cache" if is_made(cache, name) else "not in the cache"
        message = f"the build root of toolchain {name} is {fault}, nor are {len(absent)} packages"
        raise UserError(message, "./doit toolchain fetches and makes it")
    return packages


def _fill(folder: Path, name: str, packages: Sequence[Path]) -> None:
    """Unpack the packages of toolchain `name` as a build root in the new folder `folder`."""
    wanted = load(name).root
    assert wanted is not None
    log = folder.parent / f"{name}.log"
    log.unlink(missing_ok=True)
    unpack(folder / "root", packages, log)
    _link(folder / "root", wanted.links)
    file_record.write(folder, file_record.found(folder / "root"))
    (folder / PACKAGES).write_text(listing(lock(name).package))


def unpack(root: Path, debs: Sequence[Path], log: Path) -> None:
    """Unpack packages as the new folder `root`, a system with a merged /usr.

    Raises `UserError` if a package is damaged.
    """
    for place in MERGED:
        (root / "usr" / place).mkdir(parents=True)
        (root / place).symlink_to(f"usr/{place}")
    unpack_packages(debs, root, left_out=LEFT_OUT, log=log)


def _link(root: Path, links: dict[str, str]) -> None:
    for path, target in links.items():
        link = root / path
        if os.path.lexists(link):
            raise UserError(f"{path} is a file of a package, and no link can take its place")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def listing(packages: tuple[LockedPackage, ...]) -> str:
    """Return packages as text, one `NAME=VERSION` a line."""
    return "".join(f"{package.name}={package.version}\n" for package in packages)


# --- roots in use, and old ones ----------------------------------------------


def hold(cache: Path, name: str) -> bool:
    """Keep the build root of toolchain `name` from `prune` until this process ends.

    Returns whether there is one.
    """
    return is_made(cache, name) and _hold(root_folder(cache, name) / PACKAGES)


def kept_folder(cache: Path, name: str) -> Path:
    """Return the folder of what compilers of toolchain `name` keep for later.

    It is made if need be, and kept from `prune` until this process ends.
    """
    folder = cache / KEPT / digest(name)
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if _hold(folder):
            return folder


def _hold(path: Path) -> bool:
    """Take a shared lock on a file or folder.  Returns False if there is none."""
    while True:
        try:
            if path not in _held:
                _held[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                fcntl.flock(_held[path], fcntl.LOCK_SH)  # it waits for the end of `prune`
            if os.path.samestat(os.fstat(_held[path]), path.stat()):
                return True
        except FileNotFoundError:
            return False
        os.close(_held.pop(path))  # it was removed, or made again


def old_folders(cache: Path) -> list[Path]:
    """Return the build roots in the cache that no toolchain of this checkout describes, sorted.

    Behind them are the folders of what their compilers kept.
    """
    current = {digest(name) for name in names()}
    places = [*sorted((cache / "toolchains").glob("*/")), *sorted((cache / KEPT).glob("*/"))]
    return [
        folder
        for folder in places
        if ROOT_NAME.fullmatch(folder.name)
        and folder.name not in current
        and not folder.is_symlink()
        and (folder.parent.name == KEPT or (folder / PACKAGES).is_file())
    ]


def prune(cache: Path) -> None:
    """Remove the `old_folders` that no run uses, and say which."""
    removed = 0
    for folder in old_folders(cache):
        if _remove(folder):
            removed += 1
            logger.info(f"removed {folder}")
        else:
            logger.info(f"{folder} stays: another run uses it")
    if not removed:
        logger.info(f"no old build root was removed from {cache / 'toolchains'}")


def _remove(folder: Path) -> bool:
    """Remove a folder of `old_folders`, unless a run uses it.  Returns whether it is gone."""
    if folder.parent.name == KEPT:
        handle = os.open(folder, os.O_RDONLY)
    else:
        handle = os.open(folder / PACKAGES, os.O_RDWR)  # a lock on NFS needs the right to write
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with scratch_folder(folder.parent, folder.name) as away:
            os.rename(folder, away / "old")
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
