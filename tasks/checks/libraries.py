"""Does an extension find every shared library it needs on the running system?

Looked in are the extension itself, those it depends on, and the base root.  What is
missing is told with the Debian package that brings it, where that can be known.
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
from tasks.util.verified_digests import Known, digest

LIBRARY = re.compile(r"\.so($|\.)")


def mapped(members: Iterable[Member], folder: Path) -> dict[str, Path]:
    """Write the libraries and links among `members` into `folder`, an absent one.

    Returns absolute path in the root -> file here, links as links, as `elf.closure` wants it.
    """
    folder.mkdir(parents=True)
    found: dict[str, Path] = {}
    for member in members:
        here = folder / str(len(found))
        if member.kind == stat.S_IFLNK:
            here.symlink_to(cpio.decode(member.data))
        elif member.kind == stat.S_IFREG and LIBRARY.search(Path(member.name).name):
            here.write_bytes(member.data)
        else:
            continue
        found[f"/{member.name}"] = here
    return found


def check(name: str, own: Mapping[str, Path], below: Mapping[str, Path], debs: Sequence[Path]) -> None:
    """Prove that all ELF files of the extension `name` find their libraries.

    own, below: as `elf.closure` has them.  debs: the packages the extension is made of.
    Raises `UserError` naming file, library and the package to add.
    """
    missing = elf.closure(own, below)
    if not missing:
        return
    file, library = missing[0]
    lines = [f"  {path.lstrip('/')} needs {needed}" for path, needed in missing[1:]]
    raise UserError(
        f"extension {name}: {file.lstrip('/')} needs {library}, "
        "which is neither in it nor in what it depends on nor in the base",
        _who_brings(library, debs),
        "\n".join(["also missing:", *lines]) if lines else "",
    )


def _who_brings(library: str, debs: Sequence[Path]) -> str:
    depends = sorted({name for deb in debs for name in dependencies(deb)})
    likely = [name for name in depends if name.removesuffix("t64") == package_name(library)]
    if likely:
        return f"add {likely[0]} to `packages` of its recipe"
    owners = _owners_here(library)
    if owners:
        return f"{' or '.join(owners)} brings it: add it to `packages`, or depend on an extension with it"
    if depends:
        return f"one of what its packages depend on may bring it: {', '.join(depends)}"
    return "add it to the extension's files, or depend on an extension that has it"


def package_name(library: str) -> str:
    """Return how Debian names the package of a library: `libfoo2` for libfoo.so.2, `libfoo1-2`
    for libfoo1.so.2 and libfoo1-2.so (Debian Policy, 8.1)."""
    stem, _, version = library.partition(".so")
    version = version.lstrip(".")
    hyphen = "-" if version and stem[-1:].isdigit() else ""
    return f"{stem}{hyphen}{version}".lower().replace("_", "-")


def dependencies(deb: Path) -> list[str]:
    """Return the names in a package's Depends and Pre-Depends, alternatives too, without versions."""
    said = run(["dpkg-deb", "--field", deb, "Depends", "Pre-Depends"]).stdout
    fields = [value for stanza in debian_control.stanzas(said) for value in stanza.values()]
    return [name for field in fields for name in debian_control.related(field)]


def _owners_here(library: str) -> list[str]:
    """Return which installed packages of this machine have a file of that name."""
    if shutil.which("dpkg-query", path=clean_env()["PATH"]) is None or os.sep in library:
        return []
    found = run(["dpkg-query", "--search", f"*/{library}"], check=False).stdout
    names = [line.split(": ")[0] for line in found.splitlines() if ": /" in line]
    return sorted({name.split(":")[0] for line in names for name in line.split(", ")})


def check_root(root: Path, profile: str, good: Path) -> None:
    """Refuse programs of the folder `root` whose shared libraries are not all there (ld.so(8)'s search).

    good: a file that keeps what was found good; the same programs, libraries and names are
    not looked at again.
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
    known = Known(good, digest(Path(elf.__file__).read_bytes()))
    state = digest(*(fact.encode(errors="surrogateescape") for fact in sorted(facts)))
    if state in known:
        return
    missing = elf.closure(files)
    if missing:
        file, library = missing[0]
        raise UserError(
            f"{file} needs {library}, which is not in the root",
            f"add the package that brings it to core.packages in profiles/{profile}.toml "
            f"(apt-file search {library}), or to [keep] in rootfs/rootfs.toml",
            "\n".join(f"  {name} needs {what}" for name, what in missing[1:]),
        )
    known.keep([state])
