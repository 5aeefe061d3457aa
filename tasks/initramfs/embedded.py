# SPDX-License-Identifier: MIT
"""Extensions inside the initramfs, in the two ways that Tiny Core supports.

Extracted (ezremaster's third place): the extension's files lie in `/`.  The file
`usr/local/tce.installed/NAME` marks it as installed for tce-load.  tce-setup runs its script at
boot, because /tmp/setup.lst lists it.

Packed: /tmp/builtin holds the .tcz files in `optional/` and the names to load in `onboot.lst`.
tce-setup loads them before those of any disk or CD.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from tasks.formats import cpio, tcz
from tasks.formats.cpio import Member
from tasks.formats.initramfs_unpacker import RootFs
from tasks.formats.squashfs import squashfs_members
from tasks.util.errors import UserError

INSTALLED = "usr/local/tce.installed"
BUILTIN = "tmp/builtin"
SETUP_LIST = "tmp/setup.lst"


def extension_members(squashfs: Path) -> list[Member]:
    """Return the members of an installed extension, `usr/local/tce.installed/NAME` included."""
    members = squashfs_members(squashfs)
    mark = f"{INSTALLED}/{squashfs.name.removesuffix('.tcz')}"
    if mark not in {member.name for member in members}:
        members.append(cpio.regular(mark, b""))
    return members


def with_dependencies(folder: Path, names: Sequence[str], release: str) -> list[str]:
    """Return `names` and all their dependencies by the .dep files in `folder`, dependencies first.

    tce-load loads no dependencies of an extension that is already installed, so those of an
    extracted extension must be in the initramfs too.  `-KERNEL` stands for `-RELEASE`.  A circle
    ends at the first name that comes again, as with tce-load.
    """
    ordered: dict[str, None] = {}
    visited: set[str] = set()

    def visit(name: str) -> None:
        if name in visited:
            return
        visited.add(name)
        dep = folder / f"{name}.tcz.dep"
        for line in dep.read_text().splitlines() if dep.is_file() else []:
            needed = line.strip().removesuffix(".tcz")
            if needed:
                visit(f"{needed.removesuffix('-KERNEL')}-{release}" if needed.endswith("-KERNEL") else needed)
        ordered[name] = None

    for name in names:
        visit(name)
    return list(ordered)


def boot_files(root: RootFs, names: Sequence[str], release: str) -> list[Member]:
    """Return the files by which tce-setup finishes the extensions `names`, extracted into `root`.

    tce-setup runs the scripts that /tmp/setup.lst lists, in order, and runs depmod if there is
    /etc/sysconfig/newmodules.
    """
    found: list[Member] = []
    scripts = []
    for name in names:
        node = root.find(f"{INSTALLED}/{name}", follow=True)
        if node is not None and node.kind == stat.S_IFREG and node.mode & 0o100:
            scripts.append(f"/{INSTALLED}/{name}\n")
    if scripts:
        found += [cpio.directory("tmp", 0o1777), cpio.regular(SETUP_LIST, "".join(scripts).encode())]
    modules = root.find(f"usr/local/lib/modules/{release}", follow=True)
    if modules is not None and any(child.children for child in modules.children.values()):
        found.append(cpio.regular("etc/sysconfig/newmodules", b""))
    return found


def builtin_members(tczs: Sequence[Path], onboot: Sequence[str]) -> list[Member]:
    """Return the members of /tmp/builtin with the files `tczs`, their .dep and their .md5.txt.

    onboot: the extensions to load at boot, without .tcz, in order.  Raises `UserError` if one is
    not among `tczs`.
    """
    missing = set(onboot) - {path.name.removesuffix(".tcz") for path in tczs}
    if missing:
        raise UserError(f"onboot names extensions that are not built in: {', '.join(sorted(missing))}")
    members = [
        cpio.directory("tmp", 0o1777),
        cpio.directory(BUILTIN),
        cpio.directory(f"{BUILTIN}/optional"),
        cpio.regular(f"{BUILTIN}/onboot.lst", "".join(f"{name}.tcz\n" for name in onboot).encode()),
    ]
    for path in sorted(tczs, key=lambda path: path.name):
        name = path.name.removesuffix(".tcz")
        for file in (path.with_name(one) for one in tcz.file_names(name, tcz.INITRAMFS_SIDE_FILES)):
            if file == path or file.is_file():
                members.append(cpio.regular(f"{BUILTIN}/optional/{file.name}", file.read_bytes()))
    return members
