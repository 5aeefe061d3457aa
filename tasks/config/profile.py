# SPDX-License-Identifier: MIT
"""Profiles: one describes one image, its kernel, extensions and boot menu.

`profiles/NAME.toml` is checked against the dataclasses here.  A lock holds the exact
versions and sha256: `profiles/NAME.lock.toml` is the pinned lock, which is committed, and
`artifacts/NAME/lock.toml` is the lock of the last fetch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tasks.config import architecture, bootcodes, inheritance
from tasks.config.architecture import Architecture
from tasks.config.check import Check
from tasks.config.compiler import Compiler
from tasks.config.kernel_image import KernelImage
from tasks.config.sources import Core, Image, check_images
from tasks.config.system import System
from tasks.formats.tcz import EXTENSION_NAME
from tasks.origins.distribution import Suite
from tasks.origins.redirects import ADDRESS, check_hosts, check_mirrors
from tasks.origins.sources import AnySource
from tasks.origins.sources.git import GitSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.text import ONE_LINE, check_line
from tasks.util.toml_schema import PATTERN

NO_RESULT = ("compiler", "check", "tcbuild")
"""The keys of a profile that change no result."""
FALLBACK = "apt"
"""The profile that every machine with apt's mirrors can build: `auto`, where no other one can be."""
VOLUME_ID = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
"""32 bytes are the field's size (ECMA-119, 8.4.7).  GRUB's menu searches for it by this name."""
REVISION = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
"""A commit or a tag of git (gitrevisions(7)); none begins with `-`, which would be an option."""
MAX_TIMEOUT = 3599
"""isolinux takes up to 35,996 tenths of a second."""


@dataclass(frozen=True)
class Kernel:
    """The kernel: its source, its configuration and its patches.

    source: where the kernel's source comes from, or with kind `image` a kernel that others built.
    base: the base config, a file of kconfig/ by its name or a source to fetch it from.  A kernel
    that others built needs none.
    base_mode: how options that the base config does not set get a value: `allnoconfig`
    disables them, `olddefconfig` takes the kernel's defaults.
    fragments: fragments of kconfig/ by their names without .config, merged in this order onto the
    base config.  A kernel that others built must have what they request.
    patches: the patch series, a folder of patches/ by its name; empty for none.
    localversion: a suffix of the kernel's release (CONFIG_LOCALVERSION).
    toolchain: the toolchain that builds this kernel, if it is not the profile's.
    modules: with `core`, all modules lie in core.gz.  With `split`, only those needed to boot do,
    and the others become extensions by the groups of kconfig/modules.toml.  With `boot`, only those
    of its list `boot` do, and the others are left out.
    compress_modules: write modules as NAME.ko.gz, which BusyBox's modprobe reads and Debian's
    kmod does not.
    release: the output of `uname -r` on the built kernel.  tcbuild needs it before the kernel is
    built, to name extensions of modules (`NAME-KERNEL` is NAME-RELEASE).
    """

    source: AnySource | GitSource | KernelImage
    base: AnySource | str = ""
    base_mode: Literal["allnoconfig", "olddefconfig"] = "olddefconfig"
    fragments: tuple[str, ...] = ()
    patches: str = ""
    localversion: str = ""
    toolchain: str = ""
    modules: Literal["core", "split", "boot"] = "core"
    compress_modules: bool = False
    release: str = ""

    def __post_init__(self) -> None:
        if self.modules == "split" and not self.release:
            raise ValueError("release: needed by modules = 'split'")
        if isinstance(self.source, KernelImage):
            for key in ("patches", "localversion", "toolchain"):
                if getattr(self, key):
                    raise ValueError(f"{key}: a kernel that others built (source.kind = 'image') has none")
        elif not self.base:
            raise ValueError("base: needed by a kernel that is built from its source")

    @property
    def image(self) -> KernelImage | None:
        """The kernel that others built; None if tcbuild builds it."""
        return self.source if isinstance(self.source, KernelImage) else None

    @property
    def own_source(self) -> AnySource | GitSource:
        """The source that tcbuild builds the kernel from.  Only for a kernel that is built."""
        assert not isinstance(self.source, KernelImage)
        return self.source

    @property
    def sources(self) -> tuple[AnySource | GitSource, ...]:
        """Where the files of the kernel come from, without the base config."""
        image = self.image
        return tuple(image.files.values()) if image else (self.own_source,)

    @property
    def tree(self) -> Path | None:
        """The kernel's source, if it is a folder of this machine that may be edited."""
        return None if self.image else self.own_source.tree()


@dataclass(frozen=True)
class Extension:
    """An extension on the image.

    name: the name of the extension, without .tcz; `-KERNEL` at its end stands for `-RELEASE`.
    place: where the extension lies and when it is loaded.  `onboot`: beside core.gz, loaded at
    boot.  `ondemand`: beside core.gz, loaded when a user asks for it.  `initrd`: unpacked into
    core.gz.  `copy2fs`: loaded at boot, and copied into the root instead of mounted.
    origin: `recipe` builds it from extensions/NAME, `upstream` downloads it from the profile's
    `tcz` on its mirrors, `imported` takes what `./doit import` put into the cache.
    alternative: the alternative of the recipe to use; empty for its first.
    """

    name: str = field(metadata={PATTERN: EXTENSION_NAME})
    place: Literal["onboot", "ondemand", "initrd", "copy2fs"] = "onboot"
    origin: Literal["recipe", "upstream", "imported"] = "recipe"
    alternative: str = ""

    def __post_init__(self) -> None:
        if not EXTENSION_NAME.fullmatch(self.name) or self.name.endswith(".tcz"):
            raise ValueError(f"name: expected an extension's name without .tcz, got {self.name!r}")
        if self.alternative and self.origin != "recipe":
            raise ValueError("alternative: only recipes (origin = 'recipe') have alternatives")


@dataclass(frozen=True)
class Boot:
    """The boot menu.

    bootcodes: the bootcodes of the default entry, each an item; one with a space has quotes, as in
    'name="some value"'.
    timeout: seconds before the default entry starts, from 0 to 3599.
    volume_id: the volume name of the ISO.
    """

    bootcodes: tuple[str, ...]
    timeout: int = 3
    volume_id: str = field(default="TINYCORE", metadata={PATTERN: VOLUME_ID})

    def __post_init__(self) -> None:
        bootcodes.check(self.bootcodes)
        if not 0 <= self.timeout <= MAX_TIMEOUT:
            raise ValueError(f"timeout: expected 0 to {MAX_TIMEOUT} seconds, got {self.timeout}")
        if not VOLUME_ID.fullmatch(self.volume_id):
            expected = "up to 32 letters, digits, '_', '.' and '-'"
            raise ValueError(f"volume_id: expected {expected}, got {self.volume_id!r}")


@dataclass(frozen=True)
class Disk:
    """The disk image that `./doit disk` makes.

    size_mib: the size of the whole image in MiB, at least 64.
    """

    size_mib: int = 256

    def __post_init__(self) -> None:
        if self.size_mib < 64:
            raise ValueError("size_mib: expected at least 64")


@dataclass(frozen=True)
class Profile:
    """A profile: one file `profiles/NAME.toml`, which describes one image.

    description: one line for the list of profiles.
    source_date_epoch: the time that all files of the image get, in seconds since 1970 (UTC).
    imported: the name of the medium that `./doit import` made this profile from.
    inherit: the profile that this one changes.  Its own values replace the inherited ones; its
    `extensions` and its checks are added to the inherited ones.
    arch: the architecture of the image, the name of a file in tasks/config/architectures/.
    release: the release of Tiny Core, the name of a file in tasks/config/releases/.  It gives `mirrors`,
    `tcz`, `probe`, the kernel's source, config and patches, and the core's archive, as far as the
    profile has none of its own.
    suite: the release of a distribution that all Debian packages come from, on every machine.
    toolchain: the programs that write the results: `host` for those of this machine, or the name of
    a file in tasks/toolchain/toolchains/, which pins them.
    programs_toolchain: the toolchain that compiles programs from their source (kind `source` of a recipe).
    Its C library must not be newer than that of the base root.
    mirrors: the addresses of the mirrors (http:// or https://), asked in this order.
    redirects: hosts that the mirrors may redirect to, each `HOST`, or `http://HOST` if the
    redirect may leave https.
    extensions: the extensions of the image.
    images: the container images of the image, which are imported at boot.
    check: checks of the booted image, which `./doit qemu:test` makes; or, by name, which it leaves out.
    tcz: the path below a mirror of the folder with the upstream extensions.
    probe: a path below a mirror.  `profile=auto` asks for it to find out if the mirror answers.
    tcbuild: the commit or the tag of tcbuild that the profile is written for; a run with another one says so.
    """

    description: str = field(metadata={PATTERN: ONE_LINE})
    source_date_epoch: int
    kernel: Kernel
    core: Core
    boot: Boot
    inherit: str = ""
    arch: str = architecture.DEFAULT
    release: str = ""
    imported: str = field(default="", metadata={PATTERN: ONE_LINE})
    suite: Suite | None = None
    toolchain: str = "host"
    programs_toolchain: str = "debian12-source"
    system: System = field(default_factory=System)
    disk: Disk = Disk()
    compiler: Compiler = field(default_factory=Compiler)
    mirrors: tuple[str, ...] = field(default=(), metadata={PATTERN: ADDRESS})
    redirects: tuple[str, ...] = ()
    extensions: tuple[Extension, ...] = ()
    images: tuple[Image, ...] = ()
    check: tuple[Check, ...] = ()
    tcz: str = ""
    probe: str = ""
    tcbuild: str = field(default="", metadata={PATTERN: REVISION})

    def __post_init__(self) -> None:
        if self.tcbuild and not REVISION.fullmatch(self.tcbuild):
            raise ValueError(f"tcbuild: expected a commit or a tag of git, got {self.tcbuild!r}")
        upstream = [extension.name for extension in self.extensions if extension.origin == "upstream"]
        if upstream and not self.tcz:
            raise ValueError(f"tcz: needed by extension {upstream[0]!r} with origin = 'upstream'")
        if self.arch not in architecture.names():
            raise ValueError(f"arch: expected one of {', '.join(architecture.names())}, got {self.arch!r}")
        if self.suite and self.suite.architecture not in ("", self.architecture.packages):
            raise ValueError(f"suite.architecture: arch = {self.arch!r} means {self.architecture.packages!r}")
        check_line("description", self.description)
        check_line("imported", self.imported)
        check_images(self.images)
        check_mirrors(self.mirrors)
        check_hosts(self.redirects)

    def is_imported(self, name: str) -> bool:
        """Tell whether the ready-made extension `name` came from the medium that was imported."""
        origin = next((item.origin for item in self.extensions if item.name == name), "")
        # One that only others need has no entry; a profile without mirrors can only have imported it.
        return origin == "imported" or (bool(self.imported) and not origin and not self.tcz)

    @property
    def architecture(self) -> Architecture:
        """What the kind of machine decides."""
        return architecture.load(self.arch)

    @property
    def packages_suite(self) -> Suite | None:
        """The suite, with the architecture of this profile's packages; None if it takes none."""
        if self.suite is None or self.arch == architecture.DEFAULT:
            return self.suite
        return replace(self.suite, architecture=self.architecture.packages)

    @property
    def kernel_toolchain(self) -> str:
        """The toolchain that builds the kernel."""
        return self.kernel.toolchain or self.toolchain

    @property
    def toolchains(self) -> tuple[str, ...]:
        """The toolchains that write results, each once."""
        return tuple(dict.fromkeys((self.toolchain, self.kernel_toolchain)))

    @property
    def epoch_env(self) -> dict[str, str]:
        """The environment that makes tools write this profile's time instead of now."""
        return {"SOURCE_DATE_EPOCH": str(self.source_date_epoch)}


def names() -> list[str]:
    """Return the names of all profiles."""
    files = CHECKOUT.found("profiles", "*.toml").values()
    return sorted(file.stem for file in files if not file.name.endswith(".lock.toml"))


def load(name: str) -> Profile:
    """Return the profile `name`.  Raises `UserError` if there is none or it is malformed."""
    if name not in names():
        hint = f"profiles: {', '.join(names())} (or auto)"
        if name.endswith(".toml"):
            file = Path(name)
            top = file.parent.parent if file.parent.name == "profiles" else "DIR"
            hint = f"a profile of your own lies in profiles/ of a tree: tree={top} profile={file.stem}"
        raise UserError(f"unknown profile {name!r}", hint)
    return inheritance.load(CHECKOUT.folders("profiles"), name, Profile)
