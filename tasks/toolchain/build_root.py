# SPDX-License-Identifier: MIT
"""The toolchain of the kernel: the compiler of this machine, or one in a build root.

`toolchains/NAME.toml` describes a toolchain.  A build root is a Debian release
with an older compiler.  mmdebstrap(1) makes it once in the cache, from the machine's
own package mirror; bubblewrap (bwrap(1)) runs commands in it, without a network and
without the machine's files except the folders bound into it.  Both programs work as root
and as an ordinary user, and leave no mounts behind.

`toolchains/NAME.packages`, if it exists, pins every package of the root.
"""

from __future__ import annotations

import difflib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.util import toml_schema
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir
from tasks.util.log import logger
from tasks.util.process import clean_env, run

FOLDER = Path(__file__).with_name("toolchains")
HOST = "host"
HOST_ROOT = Path("/")
PACKAGES = "packages"
"""In a root's folder: the list of its packages.  It is written last, so it marks a complete root."""
MIRROR_VARIABLE = "TCBUILD_DEBIAN_MIRROR"
"""Environment variable: the address of a Debian mirror."""

# The folders of a root that hold programs and their data.  /home, /srv, /var and
# the like are left out: bound folders often lie below folders of these names.
SYSTEM = ("usr", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
# bwrap makes these itself; nothing can be bound below them.
VIRTUAL = ("dev", "proc")
# Settings of the machine's apt for reaching the mirror (apt.conf(5)).
APT_SETTINGS = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Retries")
# Documentation is a third of a build root.
LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")
LICENCES = "/usr/share/doc/*/copyright"


@dataclass(frozen=True)
class BuildRoot:
    """The Debian release that a build root is made of, and its packages."""

    suite: str
    packages: tuple[str, ...]
    keyring: str
    architecture: str = "amd64"
    components: tuple[str, ...] = ("main",)
    variant: Literal["essential", "apt", "minbase", "buildd"] = "essential"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9.-]*", self.suite):
            raise ValueError(f"suite: expected a release's code name, got {self.suite!r}")
        for package in self.packages:
            if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package):
                raise ValueError(f"packages: {package!r} is no package name")
        if not self.keyring.startswith("/"):
            raise ValueError(f"keyring: expected an absolute path, got {self.keyring!r}")


@dataclass(frozen=True)
class Toolchain:
    """One `toolchains/NAME.toml`; without `root` it means the programs of this machine."""

    description: str
    compiler: str
    """The C compiler's command, for CC= and HOSTCC=."""
    root: BuildRoot | None = None


@dataclass(frozen=True)
class ReadyToolchain:
    """A toolchain whose programs are all installed.

    compiler: the C compiler's command; root: the build root's folder, `/` for this machine;
    fingerprint: toolchains with different fingerprints must not share objects.
    """

    compiler: str
    root: Path
    fingerprint: str

    def has(self, program: str) -> bool:
        """Tell whether the toolchain has `program`."""
        if self.root == HOST_ROOT:
            return shutil.which(program, path=clean_env()["PATH"]) is not None
        return (self.root / "usr/bin" / program).is_file()


@dataclass(frozen=True)
class Bind:
    """A folder or file of this machine that a command in a build root sees at the same path."""

    path: Path
    writable: bool = False


def names() -> list[str]:
    """Return the names of all toolchains."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load(name: str) -> Toolchain:
    """Return the toolchain `name`.  Raises `UserError` if there is none or it is malformed."""
    if name not in names():
        raise UserError(f"unknown toolchain {name!r}", f"toolchains: {', '.join(names())}")
    return toml_schema.load(FOLDER / f"{name}.toml", Toolchain)


def root_folder(cache: Path, name: str) -> Path:
    """Return where the build root `name` lies in the cache.

    The folder's name has a digest of the toolchain's description and of its
    pinned packages: a new version of either gets a new root.
    """
    content = b"".join(
        file.read_bytes() for file in (FOLDER / f"{name}.toml", _pin_file(name)) if file.is_file()
    )
    return cache / "toolchains" / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"


def is_made(cache: Path, name: str) -> bool:
    """Tell whether toolchain `name` is ready: its build root is in the cache, or it needs none."""
    return load(name).root is None or (root_folder(cache, name) / PACKAGES).is_file()


def ready(cache: Path, name: str) -> ReadyToolchain:
    """Return toolchain `name`.

    Raises `UserError` if its build root is not in the cache: `ensure_root` makes it.
    """
    toolchain = load(name)
    if not is_made(cache, name):
        raise UserError(f"the build root of toolchain {name} is not in the cache", "./doit kernel makes it")
    root = root_folder(cache, name) / "root" if toolchain.root else HOST_ROOT
    return ReadyToolchain(toolchain.compiler, root, fingerprint(name, root))


def ensure_root(cache: Path, name: str, *, offline: bool) -> Path:
    """Return the root folder of toolchain `name`, and make it if the cache has none.

    The folder is `/` for a toolchain without a root.  Nothing is downloaded if the root is in
    the cache.  Raises `UserError` if it is not there and `offline` is set, if no mirror is
    known, if the root cannot be made or entered, and if its packages are not the pinned ones.
    """
    toolchain = load(name)
    if toolchain.root is None:
        return HOST_ROOT
    folder = root_folder(cache, name)
    with _locked(folder):
        if not is_made(cache, name):
            if offline:
                raise UserError(
                    f"the build root of toolchain {name} is not in the cache",
                    "run once without offline=1, or use toolchain = 'host'",
                )
            _make_root(folder, name, toolchain, toolchain.root)
    return folder / "root"


def command(root: Path, argv: Sequence[str | Path], binds: Sequence[Bind]) -> list[str]:
    """Return the argument list that runs `argv` in `root`; if that is `/`, `argv` itself.

    The command sees the root's programs (read-only), an empty /tmp, and `binds`;
    no network and no other process.  It starts in the caller's working directory
    if that is bound.  Raises `UserError` for a bind below a folder of the root.
    """
    words = [str(word) for word in argv]
    if root == HOST_ROOT:
        return words
    box = ["bwrap", "--unshare-all", "--die-with-parent", "--hostname", "tcbuild"]
    box += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--setenv", "HOME", "/tmp"]
    for folder in SYSTEM:
        inside = root / folder
        if inside.is_symlink():  # /bin -> usr/bin on a merged-/usr system
            box += ["--symlink", os.readlink(inside), f"/{folder}"]
        elif inside.is_dir():
            box += ["--ro-bind", str(inside), f"/{folder}"]
    # Outer folders first: a bind hides earlier binds below it.
    for bind in sorted(binds, key=lambda bind: bind.path):
        if len(bind.path.parts) < 2 or bind.path.parts[1] in (*SYSTEM, *VIRTUAL):
            raise UserError(
                f"{bind.path} cannot be shown in a build root: it would hide the root's own files",
                "move the checkout, or choose other folders with out=DIR and TCBUILD_CACHE",
            )
        box += ["--bind" if bind.writable else "--ro-bind", str(bind.path), str(bind.path)]
    return [*box, "--", *words]


def fingerprint(name: str, root: Path) -> str:
    """Return the fingerprint of a toolchain, one line.  Builds of two fingerprints must not share objects.

    It has the versions of toolchain, compiler, linker and C library, and for a root a digest
    of all its packages.  It protects objects, and kbuild's host programs (`make mrproper`
    leaves those in tools/).
    """
    compiler = load(name).compiler
    version_commands = ([compiler, "-dumpfullversion"], ["ld", "-v"], ["getconf", "GNU_LIBC_VERSION"])
    gcc, linker, libc = (run(command(root, argv, ())).stdout for argv in version_commands)
    listing = root.parent / PACKAGES
    packages = hashlib.sha256(listing.read_bytes()).hexdigest()[:16] if root != HOST_ROOT else ""
    return describe(name, compiler, gcc, linker, libc, packages)


def describe(name: str, compiler: str, gcc: str, linker: str, libc: str, packages: str = "") -> str:
    """Return the fingerprint's text from what the programs print about themselves.

    `gcc` is `-dumpfullversion`'s output, `linker` that of `ld -v` ("GNU ld (GNU
    Binutils for Debian) 2.40"), `libc` getconf's ("glibc 2.36").
    Raises `UserError` if one of them is empty.
    """
    if not (gcc.strip() and linker.strip() and libc.strip()):
        raise UserError(f"toolchain {name}: compiler, linker or C library print no version")
    parts = [name, f"{compiler} {gcc.strip()}", f"ld {linker.split()[-1]}", libc.strip()]
    return ", ".join([*parts, *([f"packages {packages}"] if packages else [])])


def mirror() -> str:
    """Return the address of the Debian mirror that the machine's apt uses, for whichever release.

    `$TCBUILD_DEBIAN_MIRROR` has precedence: the apt of another distribution has no
    Debian mirror.  Raises `UserError` if neither names one.
    """
    chosen = os.environ.get(MIRROR_VARIABLE, "")
    if chosen:
        return chosen
    fields = "$(REPO_URI) $(ORIGIN) $(LABEL) $(COMPONENT)"
    targets = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]).stdout
    return parse_mirror(targets)


def parse_mirror(targets: str) -> str:
    """Return the first Debian main archive in lines of `URI ORIGIN LABEL COMPONENT`.

    Label `Debian` is the archive itself, `Debian-Security` is not.  Origin and
    label are empty until apt has fetched its lists.  Raises `UserError` if no line matches.
    """
    for line in targets.splitlines():
        if line.split(maxsplit=1)[1:] == ["Debian Debian main"]:
            return line.split()[0]
    raise UserError(
        "no Debian mirror to make a build root from is in the configuration of apt",
        f"run apt-get update, or set {MIRROR_VARIABLE} to the address of a mirror",
    )


def _pin_file(name: str) -> Path:
    return FOLDER / f"{name}.packages"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Of two builds that need the same root, the second waits until the first has made it.
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _make_root(folder: Path, name: str, toolchain: Toolchain, wanted: BuildRoot) -> None:
    if not Path(wanted.keyring).is_file():
        raise UserError(
            f"{wanted.keyring} is missing: it holds the keys Debian signs its archive with",
            "apt-get install debian-archive-keyring",
        )
    source = mirror()
    logger.info(f"making the build root of toolchain {name} (Debian {wanted.suite}; once)")
    log = folder.parent / f"{name}.log"
    log.unlink(missing_ok=True)
    with atomic_dir(folder) as partial:
        tarball, root = partial / "root.tar", partial / "root"
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
            settings.write(_apt_settings())
            settings.flush()
            Path(settings.name).chmod(0o644)  # mmdebstrap reads it as another user
            argv = mmdebstrap(wanted, tarball, source, Path(settings.name))
            run(argv, log=log, hint=_mmdebstrap_hint())
        root.mkdir()
        # All files get the owner who makes the root, so that this user can remove
        # it.  bwrap provides the device nodes.
        unpack = ["tar", "--extract", "--no-same-owner", "--no-same-permissions", "--exclude=./dev/*"]
        run([*unpack, "--file", tarball, "--directory", root], log=log)
        tarball.unlink()
        listing = installed(root)
        check_pinned(name, listing)
        run(command(root, [toolchain.compiler, "--version"], ()), hint=ENTER_HINT)
        (partial / PACKAGES).write_text(listing)


ENTER_HINT = (
    "a build root is entered through user namespaces; a container or AppArmor may forbid them "
    "(kernel.apparmor_restrict_unprivileged_userns). toolchain = 'host' needs none"
)


def _mmdebstrap_hint() -> str:
    mapping = "" if os.geteuid() == 0 else ", and has /etc/subuid a range for you (package uidmap)"
    return f"is the Debian mirror reachable{mapping}?"


def mmdebstrap(wanted: BuildRoot, tarball: Path, source: str, apt_settings: Path) -> list[str]:
    """Return the command that writes a build root as a tar archive."""
    argv = [
        "mmdebstrap",
        # chroot(2) as root; as a user, a user namespace with ids from /etc/subuid.
        "--mode=root" if os.geteuid() == 0 else "--mode=unshare",
        "--format=tar",
        f"--variant={wanted.variant}",
        f"--architectures={wanted.architecture}",
        f"--components={','.join(wanted.components)}",
        f"--include={','.join(sorted(wanted.packages))}",
        f"--keyring={wanted.keyring}",
        f"--aptopt={apt_settings}",
        '--aptopt=Acquire::Languages "none"',
    ]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    argv += [f"--dpkgopt=path-include={LICENCES}"]
    # Commands in the root have no use for the machine's proxy and mirror.
    apt_files = '"$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/apt/sources.list"'
    argv += [f'--customize-hook=rm -f {apt_files} && rm -f "$1/etc/resolv.conf" "$1/etc/hostname"']
    return [*argv, wanted.suite, str(tarball), source]


def _apt_settings() -> str:
    return run(["apt-config", "dump", "--no-empty", "--format", '%f "%v";%n', *APT_SETTINGS]).stdout


def installed(root: Path) -> str:
    """Return the packages of `root`, sorted, one `NAME:ARCHITECTURE=VERSION` a line."""
    database = f"--admindir={root / 'var/lib/dpkg'}"
    shown = run(["dpkg-query", database, "-W", "-f", "${Package}:${Architecture}=${Version}\\n"]).stdout
    return "".join(f"{line}\n" for line in sorted(shown.splitlines()))


def check_pinned(name: str, listing: str) -> None:
    """Raise `UserError` with the differences if a root's packages are not the pinned ones.

    A toolchain without a pin file accepts all packages.
    """
    pin = _pin_file(name)
    if not pin.is_file() or pin.read_text() == listing:
        return
    pinned, offered = pin.read_text().splitlines(), listing.splitlines()
    lines = difflib.unified_diff(pinned, offered, "pinned", "offered", n=0, lineterm="")
    raise UserError(
        f"the mirror offers other packages than {pin.name} pins for toolchain {name}",
        f"use a mirror that has them, or remove {pin} to accept what is offered",
        "\n".join(f"  {line}" for line in lines if not line.startswith("@@")),
    )
