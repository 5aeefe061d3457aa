"""Profiles: what is built, from where, with which words of Tiny Core's on top.

`profiles/NAME.toml` is checked against the dataclasses here.  What was really
used (versions, sha256) stands in a lock: `profiles/NAME.lock.toml` is the pinned
one, committed; `artifacts/NAME/lock.toml` the one of the last fetch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tasks.config import inheritance
from tasks.config.compiler import Compiler
from tasks.config.sources import Core, Image, check_images
from tasks.config.system import System
from tasks.formats.tcz import EXTENSION_NAME
from tasks.origins.redirects import check_hosts
from tasks.origins.sources import AnySource
from tasks.util.checkout import ROOT
from tasks.util.errors import UserError
from tasks.util.toml_schema import PATTERN

FALLBACK = "apt"
"""The profile that every machine with apt's mirrors can build: `auto`, where no other one can be."""


@dataclass(frozen=True)
class Kernel:
    """The kernel: its source, its base config, the fragments on top, its patch series.

    modules: with `core`, all of them lie in core.gz; with `split`, those needed to boot do, and
    the others become extensions, sorted as kconfig/modules.toml says.
    compress_modules: as NAME.ko.gz, which BusyBox's modprobe reads and Debian's kmod does not.
    release: what `uname -r` will say; tcbuild needs to know it before the kernel is built,
    to name module extensions (`NAME-KERNEL` is NAME-RELEASE).
    """

    source: AnySource
    base: AnySource | str
    base_mode: Literal["allnoconfig", "olddefconfig"]
    fragments: tuple[str, ...]
    patches: str = ""
    localversion: str = ""
    toolchain: str = "host"
    """A file of tasks/toolchain/toolchains/: `host`, or a pinned build root."""
    modules: Literal["core", "split"] = "core"
    compress_modules: bool = False
    release: str = ""

    def __post_init__(self) -> None:
        if self.modules == "split" and not self.release:
            raise ValueError("release: needed by modules = 'split'")


@dataclass(frozen=True)
class Extension:
    """An extension on the image, where it goes and where it is from.

    place: ezremaster's three (`onboot` and `ondemand` beside core.gz, `initrd` extracted
    into it), or `copy2fs`: loaded on boot, and copied into the root instead of mounted.
    origin: `recipe` (extensions/NAME), or `upstream` (below the profile's `tcz` on its mirrors).
    alternative: which of a recipe's alternative origins, if not its first.
    """

    name: str = field(metadata={PATTERN: EXTENSION_NAME})
    place: Literal["onboot", "ondemand", "initrd", "copy2fs"] = "onboot"
    origin: Literal["recipe", "upstream"] = "recipe"
    alternative: str = ""

    def __post_init__(self) -> None:
        if not EXTENSION_NAME.fullmatch(self.name) or self.name.endswith(".tcz"):
            raise ValueError(f"name: expected an extension's name without .tcz, got {self.name!r}")
        if self.alternative and self.origin != "recipe":
            raise ValueError("alternative: only recipes (origin = 'recipe') have some")


@dataclass(frozen=True)
class Boot:
    """Boot menu: bootcodes of the default entry, seconds before it starts."""

    bootcodes: tuple[str, ...]
    timeout: int = 3
    volume_id: str = "TINYCORE"


@dataclass(frozen=True)
class Disk:
    """The disk image of `doit disk`: its whole size in MiB."""

    size_mib: int = 256

    def __post_init__(self) -> None:
        if self.size_mib < 64:
            raise ValueError("size_mib: expected at least 64")


@dataclass(frozen=True)
class Profile:
    """One `profiles/NAME.toml`."""

    description: str
    source_date_epoch: int
    kernel: Kernel
    core: Core
    boot: Boot
    inherit: str = ""
    """The profile this one is on top of (tasks/config/inheritance.py)."""
    system: System = field(default_factory=System)
    disk: Disk = Disk()
    compiler: Compiler = field(default_factory=Compiler)
    mirrors: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()
    """Hosts that the mirrors may send us to (tasks/origins/http_session.py)."""
    extensions: tuple[Extension, ...] = ()
    images: tuple[Image, ...] = ()
    tcz: str = ""
    """Path below a mirror of the folder that holds the upstream extensions."""
    probe: str = ""
    """Path below a mirror that `profile=auto` asks for to see whether it answers."""

    def __post_init__(self) -> None:
        upstream = [extension.name for extension in self.extensions if extension.origin == "upstream"]
        if upstream and not self.tcz:
            raise ValueError(f"tcz: needed by extension {upstream[0]!r} with origin = 'upstream'")
        check_images(self.images)
        check_hosts(self.redirects)


def names() -> list[str]:
    """Return the names of all profiles."""
    files = (ROOT / "profiles").glob("*.toml")
    return sorted(file.stem for file in files if not file.name.endswith(".lock.toml"))


def load(name: str) -> Profile:
    """Return the profile `name`.  Raises `UserError` if there is none or it is malformed."""
    if name not in names():
        raise UserError(f"unknown profile {name!r}", f"profiles: {', '.join(names())} (or auto)")
    return inheritance.load(ROOT / "profiles", name, Profile)
