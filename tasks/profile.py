"""Profiles: what is built, from where, with which words of Tiny Core's on top.

`profiles/NAME.toml` is checked against the dataclasses here.  What was really
used (versions, sha256) stands in a lock: `profiles/NAME.lock.toml` is the pinned
one, committed; `artifacts/NAME/lock.toml` the one of the last fetch.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tasks import compilers, inherit, schema
from tasks.compilers import Compiler
from tasks.errors import UserError
from tasks.files import write_if_changed
from tasks.run import ROOT
from tasks.source import Core as Core
from tasks.source import Image, check_hosts, check_images
from tasks.source import Source as Source
from tasks.system import System

SHA256 = re.compile(r"[0-9a-f]{64}")
SHARED_VARIABLE = "TCBUILD_SHARED_CACHE"
MD5 = re.compile(r"[0-9a-f]{32}")
# Names of extensions are parts of paths and URLs.
EXTENSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Kernel:
    """The kernel: its source, its base config, the fragments on top, its patch series.

    modules `core`: all of them lie in core.gz; `split`: those needed to boot do, the
    others become extensions, sorted as kconfig/modules.toml says.
    compress_modules: as NAME.ko.gz, which BusyBox's modprobe reads and Debian's kmod does not.
    release: what `uname -r` will say; tcbuild needs to know it before the kernel is built,
    to name module extensions (`NAME-KERNEL` is NAME-RELEASE).
    """

    source: Source
    base: Source | str
    base_mode: Literal["allnoconfig", "olddefconfig"]
    fragments: tuple[str, ...]
    patches: str = ""
    localversion: str = ""
    toolchain: str = "host"
    """A file of toolchains/: `host`, or a pinned build root."""
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

    name: str
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
    """The profile this one is on top of (tasks/inherit.py)."""
    system: System = field(default_factory=System)
    disk: Disk = Disk()
    compiler: Compiler = field(default_factory=Compiler)
    mirrors: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()
    """Hosts that the mirrors may send us to (tasks/redirects.py)."""
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


@dataclass(frozen=True)
class LockedPackage:
    """An apt package as fetched: exact version and sha256 of the .deb."""

    name: str
    version: str
    sha256: str

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256: expected 64 hex digits, got {self.sha256!r}")

    def cached_in(self, cache: Path) -> Path:
        """Return where the .deb lies in `cache`, if it was fetched."""
        # An epoch's colon is written %3a in the file name, as apt does.
        name = f"{self.name}_{self.version.replace(':', '%3a')}.deb"
        return cached_path(cache, self.sha256, name)


@dataclass(frozen=True)
class LockedFile:
    """A file below a mirror: its path there and sha256."""

    path: str
    sha256: str

    def __post_init__(self) -> None:
        if not SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256: expected 64 hex digits, got {self.sha256!r}")

    def cached_in(self, cache: Path) -> Path:
        """Return where the file lies in `cache`, if it was fetched."""
        return cached_path(cache, self.sha256, Path(self.path).name)


@dataclass(frozen=True)
class LockedExtension:
    """An upstream extension: what its .tcz and its .dep were when it was locked.

    name: without .tcz, `-KERNEL` resolved; size: bytes; deps: as its .dep names them,
    without .tcz, `-KERNEL` left as it stands there.
    """

    name: str
    sha256: str
    md5: str
    size: int
    deps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.deps):
            if not EXTENSION_NAME.fullmatch(name):
                raise ValueError(f"name: expected an extension's name, got {name!r}")
        for key, form in (("sha256", SHA256), ("md5", MD5)):
            if not form.fullmatch(getattr(self, key)):
                raise ValueError(f"{key}: expected hex digits, got {getattr(self, key)!r}")

    def cached_in(self, cache: Path) -> Path:
        """Return where the .tcz lies in `cache`, if it was fetched."""
        return cached_path(cache, self.sha256, f"{self.name}.tcz")


def cached_path(cache: Path, sha256: str, name: str) -> Path:
    """Return where a file of that sha256 and name lies in `cache`."""
    # The hash in the path keeps files of one name but different content (the
    # corepure64.gz of two releases) apart.
    return cache / "downloads" / sha256[:16] / name


@dataclass(frozen=True)
class Lock:
    """What a profile's inputs are, byte for byte."""

    package: tuple[LockedPackage, ...] = ()
    file: tuple[LockedFile, ...] = ()
    extension: tuple[LockedExtension, ...] = ()

    def to_toml(self) -> str:
        """Return the lock as TOML, in a stable order."""
        lines = ["# Written by `doit lock`; every input of the profile, byte for byte.", ""]
        for package in sorted(self.package, key=lambda item: item.name):
            lines += toml_entry("package", name=package.name, version=package.version, sha256=package.sha256)
        for file in sorted(self.file, key=lambda item: item.path):
            lines += toml_entry("file", path=file.path, sha256=file.sha256)
        for item in sorted(self.extension, key=lambda item: item.name):
            about = {"sha256": item.sha256, "md5": item.md5, "size": item.size, "deps": item.deps}
            lines += toml_entry("extension", name=item.name, **about)
        return "\n".join(lines)


def toml_entry(kind: str, **values: object) -> list[str]:
    """Return the lines of one entry of a lock: a table of the array `kind`, and an empty line."""
    return [f"[[{kind}]]", *(f"{key} = {_quoted(value)}" for key, value in values.items()), ""]


def _quoted(value: object) -> str:
    """Return a value as TOML: a basic string has JSON's escapes, and DEL, which JSON leaves bare."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True)
class Settings:
    """What the command line chose, and where everything of one profile lies."""

    name: str
    profile: Profile
    frozen: bool
    offline: bool
    fragments: tuple[str, ...]
    output: Path
    """Folder of this profile's results, `artifacts/NAME` unless `out=` says otherwise."""
    cache: Path
    """Downloads and ccache, shared by all checkouts of one user."""
    relock: bool = False
    """`lock` takes what the mirrors serve now, though something else is locked."""
    shared_cache: str = ""
    """Address of the shared cache (tasks/cached.py), "" for none."""

    @property
    def profile_file(self) -> Path:
        return ROOT / "profiles" / f"{self.name}.toml"

    @property
    def profile_files(self) -> list[Path]:
        """The profile's file, and those it inherits from."""
        return inherit.lineage(ROOT / "profiles", self.name)

    @property
    def own_lock(self) -> Path:
        return ROOT / "profiles" / f"{self.name}.lock.toml"

    @property
    def pinned_lock(self) -> Path:
        return inherit.pinned_lock(ROOT / "profiles", self.name)

    @property
    def used_lock(self) -> Path:
        return self.output / "lock.toml"

    @property
    def logs(self) -> Path:
        return self.output / "logs"

    @property
    def linux(self) -> Path:
        """The unpacked, patched kernel tree."""
        return self.output / "linux"

    @property
    def build(self) -> Path:
        """The kernel's O= folder: objects, kept between runs."""
        return self.output / "build"

    @property
    def config(self) -> Path:
        """The proven .config."""
        return self.output / "kconfig" / "config"

    @property
    def kernel(self) -> Path:
        """The installed kernel: vmlinuz64, System.map, config, release, modules/."""
        return self.output / "kernel"

    @property
    def core(self) -> Path:
        return self.output / "corepure64.gz"

    @property
    def core_parts(self) -> Path:
        """What rootfs64.gz and corepure64.gz are put together from, kept between runs."""
        return self.output / "core-parts"

    @property
    def tcz(self) -> Path:
        """Folder of built extensions."""
        return self.output / "tcz"

    @property
    def images_list(self) -> Path:
        """images.lst: the profile's container images, checked."""
        return self.output / "images.lst"

    @property
    def iso(self) -> Path:
        return self.output / f"tcbuild-{self.name}.iso"

    @property
    def epoch_env(self) -> dict[str, str]:
        return {"SOURCE_DATE_EPOCH": str(self.profile.source_date_epoch)}


def cache_folder() -> Path:
    """Return the user cache folder: $TCBUILD_CACHE, or tcbuild below $XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("TCBUILD_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base).absolute() / "tcbuild"


def names() -> list[str]:
    """Return the names of all profiles."""
    files = (ROOT / "profiles").glob("*.toml")
    return sorted(file.stem for file in files if not file.name.endswith(".lock.toml"))


def load(name: str) -> Profile:
    """Return the profile `name`.  Raises `UserError` if there is none or it is malformed."""
    if name not in names():
        raise UserError(f"unknown profile {name!r}", f"profiles: {', '.join(names())} (or auto)")
    return inherit.load(ROOT / "profiles", name, Profile)


def load_lock(path: Path) -> Lock:
    """Return the lock at `path`, an empty one if there is none."""
    return schema.load(path, Lock) if path.exists() else Lock()


def settings(variables: dict[str, str], artifacts: Path) -> Settings:
    """Resolve the command line's variables (profile=, fragments=, out=, frozen= ...).

    Raises `UserError` for an unknown variable value or profile.
    """
    offline, frozen = _flag(variables, "offline"), _flag(variables, "frozen")
    name = resolve_name(variables.get("profile", "auto"), artifacts, offline)
    profile = load(name)
    compiler = compilers.chosen(profile.compiler, variables, ROOT / "profiles" / f"{name}.toml")
    profile = replace(profile, compiler=compiler)
    chosen = variables.get("fragments")
    fragments = tuple(filter(None, chosen.split(","))) if chosen is not None else profile.kernel.fragments
    output = Path(variables["out"]).absolute() if variables.get("out") else artifacts / name
    relock, shared = _flag(variables, "relock"), variables.get("cache", os.environ.get(SHARED_VARIABLE, ""))
    return Settings(name, profile, frozen, offline, fragments, output, cache_folder(), relock, shared)


def _flag(variables: dict[str, str], name: str) -> bool:
    value = variables.get(name, "0")
    if value not in ("0", "1"):
        raise UserError(f"{name}={value}: expected 0 or 1")
    return value == "1"


def resolve_name(asked: str, artifacts: Path, offline: bool) -> str:
    """Return the profile to use; `auto` is decided once and recorded in artifacts/profile.json.

    A recorded choice is used again until `profile=NAME` says otherwise or
    `artifacts/` is removed, so that a mirror's outage never changes what is built.
    """
    record = artifacts / "profile.json"
    if asked != "auto":
        return asked
    if record.is_file():
        try:
            return str(json.loads(record.read_text())["profile"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{record} is damaged", "remove it, or say profile=NAME") from None
    from tasks import probe  # imports requests: only when a choice must be made

    name, reason = probe.choose({name: load(name) for name in names()}, offline)
    write_if_changed(record, json.dumps({"profile": name, "reason": reason}, indent=2) + "\n")
    print(f"profile=auto chose {name}: {reason} (recorded in {record.name})")
    return name
