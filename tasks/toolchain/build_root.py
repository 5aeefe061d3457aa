# SPDX-License-Identifier: MIT
"""Toolchains: the programs that write results, those of this machine or those of a build root.

`toolchains/NAME.toml` describes a toolchain.  A build root is a folder in the cache with packages
of one suite.  `toolchains/NAME.lock.toml` names each of them with version, sha256 and address.
The packages are unpacked only: no maintainer script runs, and no root is needed.  What
update-alternatives(1) would link stands in the description.

`tasks/fetch/toolchain.py` fetches the packages, `tasks/toolchain/entry.py` runs commands in a root.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tasks.formats.debian_package import unpack_packages
from tasks.origins.distribution import Suite
from tasks.origins.lock import Lock, LockedPackage, load_lock
from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir
from tasks.util.log import logger

FOLDER = Path(__file__).with_name("toolchains")
HOST = "host"
LOCK = ".lock.toml"
FORMAT = 1
"""Part of a root's digest.  Raise it when a root is made otherwise from the same packages."""
PACKAGES = "packages"
"""In a root's folder: the list of its packages.  It is written last, so it marks a complete root."""
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
# A system whose /bin, /sbin and /lib are links below /usr; Debian 12's packages expect one.
MERGED = ("bin", "sbin", "lib", "lib64")
# Documentation is a third of the files.  The licences stay in the packages, which the cache keeps.
LEFT_OUT = ("./usr/share/man", "./usr/share/locale", "./usr/share/doc", "./usr/share/info", "./dev")
# The packages whose versions a fingerprint names: compiler, linker, C library.
NAMED = re.compile(r"gcc-\d+|binutils|libc6")


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
    """

    suite: Suite
    makers: tuple[str, ...]
    helpers: tuple[str, ...] = ()
    entry: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("makers", "helpers", "entry"):
            for package in getattr(self, key):
                if not PACKAGE.fullmatch(package):
                    raise ValueError(f"{key}: {package!r} is no package name")
        for path in self.links:
            if path.startswith("/") or ".." in path.split("/"):
                raise ValueError(f"links: expected a path below the root, got {path!r}")

    @property
    def packages(self) -> tuple[str, ...]:
        """The names of all packages that the root is asked to have."""
        return (*self.makers, *self.helpers, *self.entry)


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
    found, root = load_lock(lock_path(name)), load(name).root
    locked = {package.name for package in found.package}
    lacking = sorted(set(root.packages) - locked) if root else []
    if lacking:
        message = f"{lock_path(name).name} has no version of {', '.join(lacking)}"
        raise UserError(message, f"./doit toolchain:lock {name}")
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


def ensure(cache: Path, name: str) -> Path:
    """Return the build root's folder of toolchain `name`, and make it from cached packages if need be.

    Raises `UserError` if a package is not in the cache, or is damaged.
    """
    folder = root_folder(cache, name)
    if not is_made(cache, name):
        with _locked(folder):
            # Another build may have made it meanwhile.
            if not is_made(cache, name):
                _make(cache, folder, name)
    return folder / "root"


def _make(cache: Path, folder: Path, name: str) -> None:
    locked, wanted = lock(name).package, load(name).root
    assert wanted is not None
    absent = [package.name for package in locked if not package.cached_in(cache).is_file()]
    if absent:
        message = f"the build root of toolchain {name} is not in the cache, nor are {len(absent)} packages"
        raise UserError(message, "./doit toolchain fetches and makes it")
    logger.info(f"toolchain {name}: unpacking {len(locked)} packages of {wanted.suite} (once)")
    started = time.monotonic()
    log = folder.parent / f"{name}.log"
    log.unlink(missing_ok=True)
    with atomic_dir(folder) as partial:
        unpack(partial / "root", [package.cached_in(cache) for package in locked], log)
        _link(partial / "root", wanted.links)
        (partial / PACKAGES).write_text(listing(locked))
    logger.info(f"toolchain {name}: ready after {time.monotonic() - started:.0f} s")


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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Of two builds that need the same root, the second waits until the first has made it.
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
