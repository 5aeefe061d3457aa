# SPDX-License-Identifier: MIT
"""Releases of Tiny Core: one file tasks/config/releases/NAME.toml each.

A profile names one by `release`.  The release then decides all that the profile does not say itself:
mirrors, the folder of extensions, the kernel's source and base config, the base archive of the core.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tasks.config import architecture
from tasks.origins import mirrors
from tasks.origins.published import Published
from tasks.util import toml_schema
from tasks.util.errors import UserError

FOLDER = Path(__file__).with_name("releases")
KEY = "release"
GIVEN = ("core", "kernel.source", "kernel.base", "kernel.base_mode")
"""The required keys of a profile that a release gives."""
VANILLA = "kernel.org"
"""The kind of `kernel.source` with which the kernel still has the release's version and config."""
IMAGE = "image"
"""The kind of `kernel.source` that is no source: others built the kernel."""


@dataclass(frozen=True)
class ReleaseFiles:
    """What a release has for one architecture.  Each path is below a mirror.

    uname: the output of `uname -r` on its kernel.
    source: the kernel's source, with Tiny Core's patches.
    config: the kernel's config.
    rootfs: the base root.
    modules: the kernel modules of the core.
    core: the whole core, which is the base root and the modules.
    kernel: the bootable kernel.
    tcz: the folder with the extensions.
    assumed: which of these follow the pattern of other releases, and were not seen named in public.
    """

    uname: str
    source: str
    config: str
    rootfs: str
    modules: str
    core: str
    kernel: str
    tcz: str
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.assumed:
            if name not in self.paths():
                raise ValueError(f"assumed: expected names of paths, got {name!r}")

    def paths(self) -> dict[str, str]:
        """Return the paths by their keys."""
        names = (field.name for field in fields(self) if field.name not in ("uname", "assumed"))
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Release:
    """A release of Tiny Core.

    description: one line about it.
    linux: the version of its kernel.
    files: what it has, by architecture.
    patches: the patch series (a folder of patches/) that its kernel needs with newer compilers.
    toolchain: the toolchain that builds its kernel without these patches.
    programs_toolchain: the toolchain that compiles programs for its C library; empty for that of a profile.
    own_symbols: Kconfig symbols that only Tiny Core's patched source has.
    published: hashes that others publish, of its files and of kernel.org's archive of the same version.
    """

    description: str
    linux: str
    files: dict[str, ReleaseFiles]
    patches: str = ""
    toolchain: str = ""
    programs_toolchain: str = ""
    own_symbols: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()


def names() -> list[str]:
    """Return the names of all releases, oldest first."""
    found = [path.stem for path in FOLDER.glob("*.toml")]
    return sorted(found, key=lambda name: [int(word) if word.isdigit() else 0 for word in name.split(".")])


@functools.cache
def load(name: str) -> Release:
    """Return the release `name`.  Raises `UserError` if there is none or its file is malformed."""
    if name not in names():
        raise UserError(f"unknown release {name!r}", f"releases: {', '.join(names())}")
    return toml_schema.load(FOLDER / f"{name}.toml", Release)


@functools.cache
def published() -> dict[str, Published]:
    """Return all hashes that others publish, by the file's path below a mirror."""
    return {one.path: one for name in names() for one in load(name).published}


def assumed_in(path: str) -> str:
    """Return the release in whose file `path` only follows the pattern of others, "" if there is none."""
    for name in names():
        for one in load(name).files.values():
            if path in (one.paths()[key] for key in one.assumed):
                return name
    return ""


def values(table: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Return the keys that the release of a profile gives it, as tables of TOML; {} if it names none.

    table: the profile's own tables, which override the result; file: its path, for messages.
    Raises `UserError` if there is no such release, or it is not for the profile's architecture.
    """
    name, arch = table.get(KEY, ""), table.get("arch", architecture.DEFAULT)
    if not isinstance(name, str):
        raise UserError(f"{file}: {KEY}: expected a string, got {name!r}")
    if not name or not isinstance(arch, str):
        return {}  # the schema reports a wrong type
    if name not in names():
        raise UserError(f"{file}: {KEY}: unknown release {name!r}", f"releases: {', '.join(names())}")
    release = load(name)
    if arch not in release.files:
        known = ", ".join(release.files)
        raise UserError(
            f"{file}: {KEY}: {release.description} is not for arch {arch!r}", f"it is for {known}"
        )
    paths = release.files[arch]
    result: dict[str, Any] = {
        "mirrors": list(mirrors.known().tinycore),
        "tcz": paths.tcz,
        "probe": paths.config,
        **({"programs_toolchain": release.programs_toolchain} if release.programs_toolchain else {}),
        "kernel": _kernel(release, paths, _table(table, "kernel")),
    }
    core = _table(table, "core")
    # Without its modules: they were built for the stock kernel.  One of ours has the same release
    # string, so the two would mix in one folder.
    own = core.get("rootfs") or "archives" in core
    result["core"] = {} if own else {"archives": [_file(paths.rootfs)]}
    return result


def _kernel(release: Release, paths: ReleaseFiles, own: Mapping[str, Any]) -> dict[str, Any]:
    source = _table(own, "source")
    kind = source.get(toml_schema.KIND, "")
    if kind == IMAGE:
        return {} if "package" in source else {"release": paths.uname}  # a package is a distribution's
    result: dict[str, Any] = {
        "base": _file(paths.config),
        "base_mode": "olddefconfig",
        # As Tiny Core has them, because its extensions ask for NAME-KERNEL; its BusyBox reads .ko.gz.
        "modules": "split",
        "compress_modules": True,
    }
    vanilla = kind == VANILLA and source.get("version", release.linux) == release.linux
    if source and not vanilla and source.get("path") != paths.source:
        return result  # of another version, so the profile must say what `uname -r` will be
    suffix = own.get("localversion")
    result["release"] = f"{release.linux}{suffix}" if suffix and isinstance(suffix, str) else paths.uname
    result["patches"] = release.patches
    if vanilla:
        result["source"] = {"kind": kind, "version": release.linux}
    elif not source:
        result["source"] = _file(paths.source)
    return result


def _file(path: str) -> dict[str, str]:
    return {"kind": "http", "path": path}


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = table.get(key, {})
    return found if isinstance(found, Mapping) else {}


def without_own_symbols(name: str, symbols: list[str]) -> str:
    """Return what a kernel without the `symbols` of Tiny Core's own source lacks, for a person."""
    one = load(name)
    return (
        f"kernel.org's Linux {one.linux} has no {', '.join(symbols)}, which the config of {one.description} "
        "sets: the boot logo is Linux's own.  No other difference of Tiny Core's source is known"
    )


def trust(path: str) -> str:
    """Return what vouches for the file at `path` before it is locked, in words."""
    known = published().get(path)
    if known is None:
        return "nobody publishes a hash of it"
    by = ", ".join(known.by)
    return f"sha256 published by {by}" if known.sha256 else f"md5 only, published by {by}"


def describe(name: str, arch: str) -> Iterator[str]:
    """Yield lines that say what a release has for an architecture, and what vouches for each file."""
    release = load(name)
    paths = release.files[arch]
    yield f"{name} {arch}: {release.description}, Linux {release.linux} ({paths.uname})"
    for key, path in paths.paths().items():
        seen = ", path assumed" if key in paths.assumed else ""
        yield f"  {key:8} {path}" + (
            f"  ({trust(path)}{seen})" if key != "tcz" else f"  ({seen[2:]})" * bool(seen)
        )
    vanilla = next((one for one in release.published if one.path.startswith("v")), None)
    said = trust(vanilla.path) if vanilla else "nobody publishes a hash of it here"
    yield f"  kernel.org's linux-{release.linux}.tar.xz  ({said})"
    if release.patches:
        other = f"; toolchain {release.toolchain} needs none" if release.toolchain else ""
        yield f"  patches  {release.patches}, for newer compilers{other}"
