# SPDX-License-Identifier: MIT
"""Crates: what a Rust program is made of besides its own source (tasks/formats/cargo_lock.py).

The cargo of a toolchain downloads them, by the settings of this machine's user: a mirror of the registry
is named there (doc.rust-lang.org/cargo, "Source Replacement").  Cargo.lock says the sha256 of each.  A
source may bring its crates along in a folder, as `cargo vendor` writes it; then nothing is downloaded.

A build gets the crates as such a folder, and has no other registry.  Cargo compares each of them with
Cargo.lock again.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.formats import cargo_lock
from tasks.formats.archive import unpack_tar
from tasks.formats.cargo_lock import Crate
from tasks.origins.kinds.base import Resources
from tasks.origins.origin_lock import OriginFile, entry_of, store, store_locked
from tasks.util.errors import DiskFull, UserError
from tasks.util.files import sha256_file
from tasks.util.log import logger
from tasks.util.process import run

RELOCK = "lock it again: ./doit lock:NAME relock=1"
VENDOR = "vendor"
CHECKSUM = ".cargo-checksum.json"
SETTINGS = ("config.toml", "config", "credentials.toml", "credentials")
"""The files in cargo's folder of a user that say how to reach registries."""
# Tokens are not among them, because messages show failed commands: credentials.toml has those.
VARIABLES = re.compile(r"CARGO_(HTTP|NET|REGISTR(Y|IES))_(?!\w*TOKEN)\w+")
SOURCES = """\
[source.crates-io]
replace-with = "tcbuild"

[source.tcbuild]
directory = {folder}
"""
# Cargo's own options of this kind depend on its configuration, which a source may have, too.
COMPILER = """\
#!/bin/sh
exec "$@" {flags}
"""


@dataclass(frozen=True)
class Program:
    """The unpacked source of a Rust program.

    label: its name for messages; top: the folder of the source; folder: that of the program in it, or
    `top`.
    is_edited: the source is a folder of this machine, so nothing but the lock says what its Cargo.lock was.
    """

    label: str
    top: Path
    folder: Path
    is_edited: bool = False

    @property
    def _up(self) -> list[Path]:
        """The folder of the program and those above it, up to the source's."""
        return [one for one in (self.folder, *self.folder.parents) if one.is_relative_to(self.top)]

    @property
    def lock(self) -> Path:
        """Its Cargo.lock: a workspace has it in a folder above.  Raises `UserError` if there is none."""
        found = next((one / cargo_lock.NAME for one in self._up if (one / cargo_lock.NAME).is_file()), None)
        if found is None:
            message = f"{self.label} has no {cargo_lock.NAME}, so nothing says which crates it is made of"
            raise UserError(message, "correct `subfolder` in the recipe, or choose a source that has one")
        return found

    def crates(self) -> list[Crate]:
        """Return the crates that its Cargo.lock names.  Raises `UserError` if there is none."""
        return cargo_lock.crates(self.lock, self.label)

    def _vendor_folders(self) -> list[Path]:
        """Return the folders that may have its crates: `vendor`, and what its cargo configuration says."""
        found = [one / VENDOR for one in self._up]
        for folder in self._up:
            for name in SETTINGS[:2]:
                path = folder / ".cargo" / name
                for source in _sources(path):
                    directory = source.get("directory")
                    found += [folder / directory] if isinstance(directory, str) else []
        return [one for one in dict.fromkeys(found) if one.resolve().is_relative_to(self.top.resolve())]

    def vendored(self) -> Path | None:
        """Return the folder of the source that has all crates of its Cargo.lock, None if none has."""
        wanted = {crate.sha256 for crate in self.crates() if crate.sha256}
        for folder in self._vendor_folders():
            if wanted and wanted <= {_sha256(path) for path in folder.glob(f"*/{CHECKSUM}")}:
                return folder
        return None

    def to_fetch(self) -> list[Crate]:
        """Return the crates that it is made of and has not got.

        Raises `UserError` if no registry that cargo asks by itself has one of them.
        """
        crates = self.crates()
        if self.vendored() or (self._has_vendor_folder() and not any(one.sha256 for one in crates)):
            return []
        for crate in crates:
            if crate.source != cargo_lock.CRATES_IO:
                where = crate.source.partition("+")[2].partition("#")[0]
                message = f"{self.label}: its crate {crate} comes from {where}"
                raise UserError(
                    message, "only a source with the output of `cargo vendor` can have such a crate"
                )
        return crates

    def _has_vendor_folder(self) -> bool:
        return any(folder.is_dir() for folder in self._vendor_folders())


def _sources(path: Path) -> list[dict[str, Any]]:
    """Return the tables `source.NAME` of a cargo configuration, none for a file that cannot be read."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("source", {})
    except (OSError, ValueError):
        return []
    return [one for one in tables.values() if isinstance(one, dict)] if isinstance(tables, dict) else []


def _sha256(checksum: Path) -> str:
    """Return the sha256 of the archive that a vendored crate was unpacked from, "" if it says none."""
    try:
        found = json.loads(checksum.read_bytes())["package"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def of_source(files: Sequence[OriginFile]) -> tuple[OriginFile, ...]:
    """Return those of an origin's locked files that are its source."""
    return tuple(file for file in files if not _is_crate(file) and file.name != cargo_lock.NAME)


def others(files: Sequence[OriginFile]) -> tuple[OriginFile, ...]:
    """Return the crates among an origin's locked files, and the Cargo.lock of a folder."""
    return tuple(file for file in files if _is_crate(file) or file.name == cargo_lock.NAME)


def _is_crate(file: OriginFile) -> bool:
    return cargo_lock.of_file_name(file.name) is not None


def pin(
    program: Program, resources: Resources, toolchain: str, identity: str, scratch: Path
) -> tuple[OriginFile, ...]:
    """Download the crates of a program into the cache, and return their lock entries.

    toolchain: that with cargo; identity: of the origin; scratch: a new folder on the cache's file system.
    Raises `UserError` as `download` does.
    """
    wanted = program.to_fetch()
    found = _found(program, wanted, resources, toolchain, scratch)
    entries = [entry_of(identity, name, path) for name, path in sorted(found.items())]
    checked = {crate.file_name: crate.sha256 for crate in wanted}
    for entry in entries:
        if checked.get(entry.name, entry.sha256) != entry.sha256:
            raise UserError(
                f"{entry.name} has sha256 {entry.sha256}, {cargo_lock.NAME} says {checked[entry.name]}"
            )
        store(resources.cache, entry, found[entry.name])
    size = sum(entry.size for entry in entries if _is_crate(entry))
    logger.info(
        f"lock: {len(wanted)} crates it needs, {size:,} bytes in all, checked by its {cargo_lock.NAME}"
    )
    return tuple(entries)


def fetch(
    program: Program, missing: Sequence[OriginFile], resources: Resources, toolchain: str, scratch: Path
) -> None:
    """Download locked crates into the cache.  Raises `UserError` as `download` does.

    toolchain, scratch: as of `pin`.
    """
    _check_lock(program, missing)
    names = {file.name for file in missing}
    wanted = [crate for crate in program.to_fetch() if crate.file_name in names]
    found = _found(program, wanted, resources, toolchain, scratch)
    for file in missing:
        if file.name not in found:
            message = f"{program.label} is locked with {file.name}, which its {cargo_lock.NAME} does not name"
            raise UserError(message, RELOCK)
        store_locked(resources.cache, file, found[file.name], "the registry of crates")


def _check_lock(program: Program, files: Sequence[OriginFile]) -> None:
    """Raise `UserError` if the Cargo.lock of a program is another one than that among locked files."""
    for file in files:
        if file.name == cargo_lock.NAME and sha256_file(program.lock) != file.sha256:
            message = f"{program.label}: its {cargo_lock.NAME} has changed since its crates were locked"
            raise UserError(message, RELOCK)


def _found(
    program: Program, wanted: Sequence[Crate], resources: Resources, toolchain: str, scratch: Path
) -> dict[str, Path]:
    """Return the files that a program is locked with beside its source, by their names."""
    scratch.mkdir(parents=True)
    found = {cargo_lock.NAME: Path(shutil.copy(program.lock, scratch))} if program.is_edited else {}
    if wanted:
        found |= download(program, wanted, resources.program(toolchain, "cargo"), scratch)
    return found


def download(
    program: Program, wanted: Sequence[Crate], cargo: Sequence[str], scratch: Path
) -> dict[str, Path]:
    """Download the crates of a program below `scratch`, and return them by their file names.

    wanted: which of them are returned; cargo: the words that start cargo.  Raises `UserError` if one is
    not available, or is not what Cargo.lock says.
    """
    home = scratch / "cargo"
    home.mkdir(parents=True)
    own = Path(os.environ.get("CARGO_HOME") or Path("~/.cargo").expanduser())
    for name in SETTINGS:
        if (own / name).is_file():
            (home / name).symlink_to((own / name).resolve())
    env = {name: value for name, value in os.environ.items() if VARIABLES.fullmatch(name)}
    words = ("vendor", "--locked", "--versioned-dirs", "--respect-source-config", str(scratch / "unpacked"))
    try:
        run([*cargo, *words], cwd=program.folder, env=env | {"CARGO_HOME": str(home)})
    except DiskFull:
        raise
    except UserError as error:
        hint = "check the network, and cargo's settings on this machine (source, http.proxy) in ~/.cargo"
        said = _reason(error.detail)
        raise UserError(
            f"{program.label}: cargo cannot fetch its crates: {said}", hint, error.detail
        ) from None
    there = {path.name: path for path in (home / "registry/cache").glob("*/*.crate")}
    found = {}
    for crate in wanted:
        path = there.get(f"{crate.folder}.crate")
        if path is None:
            raise UserError(f"{program.label}: cargo did not fetch the crate {crate}")
        found[crate.file_name] = path
    return found


def _reason(detail: str) -> str:
    """Return what cargo said first, from an error's detail; the causes follow it, the last one at the end."""
    lines = [line.removeprefix("  | ").strip() for line in detail.splitlines() if line.startswith("  | ")]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return said[0] if said else "it does not say why"


def lay_out(program: Program, files: Sequence[OriginFile], cache: Path, cargo: Path) -> None:
    """Make the new folder `cargo` of a build: crates from locked files, cargo's settings and its compiler.

    Raises `UserError` if a crate is not locked, or is locked as another one than Cargo.lock names.
    """
    _check_lock(program, files)
    locked = {file.name: file for file in files}
    vendored = program.vendored()
    folder = vendored or cargo / VENDOR
    (cargo / VENDOR).mkdir(parents=True)
    crates = program.to_fetch()
    for crate in crates:
        file = locked.get(crate.file_name)
        if file is None or file.sha256 != crate.sha256:
            how = "is not locked" if file is None else "is locked as another file"
            raise UserError(f"{program.label} needs the crate {crate}, which {how}", RELOCK)
        unpack_tar(file.cached_in(cache), folder / crate.folder, strip=1)
        # Cargo compares the listed files, and the sha256 of the archive (its source, sources/directory.rs).
        listed = {"files": {}, "package": crate.sha256}
        (folder / crate.folder / CHECKSUM).write_text(json.dumps(listed))
    settings = SOURCES.format(folder=json.dumps(str(folder))) if vendored or crates else ""
    (cargo / "sources.toml").write_text(settings)
    compiler = cargo / "rustc"
    flags = [f"--remap-path-prefix={path}=." for path in (program.top, cargo)]
    compiler.write_text(COMPILER.format(flags=shlex.join(flags)))
    compiler.chmod(0o755)
