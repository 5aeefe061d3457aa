# SPDX-License-Identifier: MIT
"""Check that an extension finds all shared libraries that it needs on the running system.

The extension itself, its dependencies and the base root are searched.  The error for a missing
library names the Debian package that provides it, if it can be found.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks.formats import cpio, debian_control, elf
from tasks.formats.cpio import Member
from tasks.util.errors import UserError
from tasks.util.files import sha256_file
from tasks.util.process import clean_env, run
from tasks.util.verified_digests import VerifiedDigests, digest

LIBRARY = re.compile(r"\.so($|\.)")


def extract(members: Iterable[Member], folder: Path) -> dict[str, Path]:
    """Write the libraries and symlinks among `members` into the new folder `folder`.

    Returns absolute path in the root -> file on this machine, as `elf.closure` takes it.
    """
    folder.mkdir(parents=True)
    found: dict[str, Path] = {}
    for member in members:
        file = folder / str(len(found))
        if member.kind == stat.S_IFLNK:
            file.symlink_to(cpio.decode(member.data))
        elif member.kind == stat.S_IFREG and LIBRARY.search(Path(member.name).name):
            file.write_bytes(member.data)
        else:
            continue
        found[f"/{member.name}"] = file
    return found


def check(name: str, own: Mapping[str, Path], below: Mapping[str, Path], debs: Sequence[Path]) -> None:
    """Check that all ELF files of the extension `name` find their libraries.

    own: the extension's files; below: those of its dependencies and the base; both as in
    `elf.closure`.  debs: the packages that the extension is made of.  Raises `UserError` with
    the file, the library, and the package to add.
    """
    missing = elf.closure(own, below)
    if not missing:
        return
    file, library = missing[0]
    lines = [f"  {path.lstrip('/')} needs {needed}" for path, needed in missing[1:]]
    raise UserError(
        f"extension {name}: {file.lstrip('/')} needs {library}, "
        "which is neither in it nor in what it depends on nor in the base",
        _hint(library, debs),
        "\n".join(["also missing:", *lines]) if lines else "",
    )


def _hint(library: str, debs: Sequence[Path]) -> str:
    depends = sorted({name for deb in debs for name in dependencies(deb)})
    likely = [name for name in depends if name.removesuffix("t64") == package_name(library)]
    if likely:
        return f"add {likely[0]} to `packages` of its recipe"
    owners = _installed_owners(library)
    if owners:
        return (
            f"{' or '.join(owners)} provides it: add it to `packages`, or depend on an extension that has it"
        )
    if depends:
        return f"a dependency of its packages may provide it: {', '.join(depends)}"
    return "add it to the extension's files, or depend on an extension that has it"


def package_name(library: str) -> str:
    """Return the name of a library's Debian package by Debian Policy 8.1.

    `libfoo2` for libfoo.so.2; `libfoo1-2` for libfoo1.so.2 and libfoo1-2.so.
    """
    stem, _, version = library.partition(".so")
    version = version.lstrip(".")
    hyphen = "-" if version and stem[-1:].isdigit() else ""
    return f"{stem}{hyphen}{version}".lower().replace("_", "-")


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
    known = VerifiedDigests(verified, digest(Path(elf.__file__).read_bytes()))
    state = digest(*(fact.encode(errors="surrogateescape") for fact in sorted(facts)))
    if state in known:
        return
    missing = elf.closure(files)
    if missing:
        file, library = missing[0]
        raise UserError(
            f"{file} needs {library}, which is not in the root",
            f"add the package that provides it to core.packages in profiles/{profile}.toml "
            f"(apt-file search {library}), or to [keep] in rootfs/rootfs.toml",
            "\n".join(f"  {name} needs {what}" for name, what in missing[1:]),
        )
    known.keep([state])
