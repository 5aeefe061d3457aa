# SPDX-License-Identifier: MIT
"""Check that an extension finds all shared libraries that it needs on the running system.

A library must also define the versions of its symbols that the extension needs.
The extension itself, its dependencies and the base root are searched.  The error for a missing
library names the Debian package that provides it, if it can be found.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from tasks.checks.left_out import LeftOut, hint_for
from tasks.config.architecture import Architecture
from tasks.engine import code
from tasks.formats import debian_control, elf
from tasks.formats.libraries import package_name
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tasks.util.process import clean_env, run
from tasks.util.verified_digests import VerifiedDigests, digest

FOREIGN = re.compile(r"/(usr/(local/)?)?lib/(firmware|debug)/")
"""Folders of files that this machine does not run: firmware, and debug information."""


def check(
    name: str,
    architecture: Architecture,
    own: Mapping[str, Path],
    below: Mapping[str, Mapping[str, Path]],
    debs: Sequence[Path],
    left_out: Collection[LeftOut] = (),
) -> None:
    """Check that all ELF files of the extension `name` find their libraries, with their versions.

    architecture: of the system; own: the extension's files; below: those of the base and of its
    dependencies, by what messages call them, the first over the later ones; all as in `elf.closure`.
    debs: the packages that the extension is made of; left_out: what the recipe leaves out of them.
    Raises `UserError` with the file, the library, and the package to add.
    """
    there = merged(below)
    # tce-load keeps what is there, so the extension's file of the same path is never loaded.
    checked = {path: file for path, file in own.items() if path not in there and not FOREIGN.match(path)}
    unmet = elf.closure(checked, there)
    owners = {path: owner for owner, files in reversed([*below.items()]) for path in files}
    versions = _version_lines(unmet.versions, checked, owners)
    missing = [_missing_line(architecture, path, library, own[path]) for path, library in unmet.libraries]
    if unmet.libraries:
        path, library = unmet.libraries[0]
        machine = elf.program_machine(own[path])
        refuse_foreign(name, architecture, path.lstrip("/"), machine, _also(missing[1:]))
        raise UserError(
            f"extension {name}: {missing[0]}, "
            "which is neither in it nor in what it depends on nor in the base",
            hint_for(_names(library, own), left_out) or _hint(library, debs),
            _also([*missing[1:], *versions]),
        )
    if versions:
        hint = "build it for the libraries that the system has, or take a release made for them"
        raise UserError(f"extension {name}: {versions[0]}", hint, _also(versions[1:]))


def refuse_foreign(name: str, architecture: Architecture, where: str, machine: str, detail: str = "") -> None:
    """Raise `UserError` if a program of the extension `name`, for `machine` (`EM_...`), cannot run there."""
    if machine not in architecture.runs:
        wanted = elf.short_machine_name(architecture.machine)
        raise UserError(
            f"extension {name}: {where} is for {elf.short_machine_name(machine)}, not for {wanted}",
            f"take the release for {wanted} ({architecture.packages}), "
            "or leave it out by `drop` in the recipe",
            detail,
        )


def merged(below: Mapping[str, Mapping[str, Path]]) -> dict[str, Path]:
    """Return the files of several owners as one root: those of the first over those of the later ones."""
    return {path: file for files in reversed([*below.values()]) for path, file in files.items()}


def _missing_line(architecture: Architecture, path: str, library: str, file: Path) -> str:
    machine = elf.program_machine(file)
    kind = f" ({elf.short_machine_name(machine)})" if machine in architecture.also_runs else ""
    return f"{path.lstrip('/')}{kind} needs {library}"


def _also(lines: Sequence[str]) -> str:
    return "\n".join(["also missing:", *(f"  {line}" for line in lines)]) if lines else ""


def _names(library: str, own: Mapping[str, Path]) -> set[str]:
    """Return the file names of a library: its own, and that of the target of the extension's link to it."""
    links = [file for path, file in own.items() if path.endswith(f"/{library}") and file.is_symlink()]
    return {Path(library).name, *(Path(os.readlink(link)).name for link in links)}


def _version_lines(
    unmet: Iterable[elf.UnmetVersion], files: Mapping[str, Path], owners: Mapping[str, str]
) -> list[str]:
    """Return a line for each file, library and kind of version: with the highest that is missing."""
    highest: dict[tuple[str, str, str], elf.UnmetVersion] = {}
    for need in unmet:
        key = (need.file, need.name, _number(need.version)[0])
        if key not in highest or _number(highest[key].version) < _number(need.version):
            highest[key] = need
    lines = []
    for need in highest.values():
        owner = "the extension" if need.found in files else owners.get(need.found, "the base")
        prefix, number = _number(need.version)
        there = max((other for kind, other in map(_number, need.defined) if kind == prefix), default=())
        has = f"has up to {'.'.join(map(str, there))}" if () < there < number else "does not have it"
        lines.append(f"{need.file.lstrip('/')} needs {need.version} of {need.name}; {owner} {has}")
    return lines


def _number(version: str) -> tuple[str, tuple[int, ...]]:
    """Divide the name of a version: `GLIBC_2.34` into ("GLIBC_", (2, 34)); () means no number."""
    number = re.search(r"\d+(\.\d+)*$", version)
    if number is None:
        return version, ()
    return version[: number.start()], tuple(map(int, number[0].split(".")))


def _hint(library: str, debs: Sequence[Path]) -> str:
    depends = sorted({name for deb in debs for name in dependencies(deb)})
    likely = [name for name in depends if name.removesuffix("t64") == package_name(library)]
    if likely:
        return (
            f"./doit lock finds the packages of libraries; else add {likely[0]} to `packages` of its recipe"
        )
    owners = _installed_owners(library)
    if owners:
        return (
            f"{' or '.join(owners)} provides it: add it to `packages`, or depend on an extension that has it"
        )
    if depends:
        return f"a dependency of its packages may provide it: {', '.join(depends)}"
    return "add it to the extension's files, or depend on an extension that has it"


def dependencies(deb: Path) -> list[str]:
    """Return the names in a package's Depends and Pre-Depends, alternatives included, without versions."""
    said = run(["dpkg-deb", "--field", deb, "Depends", "Pre-Depends"]).stdout
    fields = [value for stanza in debian_control.stanzas(said) for value in stanza.values()]
    return [name for field in fields for name in debian_control.related_packages(field)]


def _installed_owners(library: str) -> list[str]:
    """Return the packages installed on this machine that have a file of that name."""
    if shutil.which("dpkg-query", path=clean_env()["PATH"]) is None or os.sep in library:
        return []
    found = run(["dpkg-query", "--search", f"*/{library}"], check=False).stdout
    names = [line.split(": ")[0] for line in found.splitlines() if ": /" in line]
    return sorted({name.split(":")[0] for line in names for name in line.split(", ")})


def check_root(root: Path, profile: str, verified: Path) -> None:
    """Raise `UserError` if a program in the folder `root` misses a shared library (ld.so(8)).

    verified: a file that records the checked states of the root.  A root with the same programs,
    libraries and names is not checked again.
    """
    files, facts = {}, []
    for folder, folders, names in os.walk(root):
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*names, *linked):
            path = Path(folder, name)
            place = f"/{path.relative_to(root)}"
            files[place] = path
            if path.is_symlink():
                facts.append(f"{place} -> {os.readlink(path)}")
            else:
                facts.append(f"{place} {sha256_file(path) if elf.is_elf(path) else '-'}")
    known = VerifiedDigests(verified, code.digest(__name__))
    state = digest(*(fact.encode(errors="surrogateescape") for fact in sorted(facts)))
    if state in known:
        return
    unmet = elf.closure(files)
    missing = [f"{file} needs {library}, which is not in the root" for file, library in unmet.libraries]
    missing += _version_lines(unmet.versions, {}, dict.fromkeys(files, "the root"))
    if missing:
        library = unmet.libraries[0][1] if unmet.libraries else unmet.versions[0].name
        raise UserError(
            missing[0],
            f"./doit lock profile={profile} finds the packages of libraries; else add the one that has "
            f"{library} to core.packages in profiles/{profile}.toml, or to [keep] in rootfs/rootfs.toml",
            "\n".join(f"  {line}" for line in missing[1:]),
        )
    known.keep([state])
