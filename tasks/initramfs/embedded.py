"""Extensions inside the initramfs, in either of the two ways Tiny Core knows.

Extracted into it (ezremaster's third place): the files lie in `/` from the start,
`usr/local/tce.installed/NAME` tells tce-load that it is installed, and its script
is run at boot through /tmp/setup.lst, the list that tce-setup works off at its end.

Or packed in /tmp/builtin, which tce-setup loads before any disk or CD: the .tcz
files in `optional/`, what to load in `onboot.lst`.
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
    """Return the members of an extension as if installed, `usr/local/tce.installed/NAME` included."""
    members = squashfs_members(squashfs)
    mark = f"{INSTALLED}/{squashfs.name.removesuffix('.tcz')}"
    if mark not in {member.name for member in members}:
        members.append(cpio.regular(mark, b""))
    return members


def with_dependencies(folder: Path, names: Sequence[str], release: str) -> list[str]:
    """Return `names` and all they depend on by the .dep files in `folder`, each before what needs it.

    tce-load asks for the dependencies of what it loads, not of what is already
    installed, so those of an extracted extension must be in the initramfs too.
    `-KERNEL` stands for `-RELEASE`; a circle is broken where it closes, as tce-load does.
    """
    done: dict[str, None] = {}
    begun: set[str] = set()

    def visit(name: str) -> None:
        if name in begun:
            return
        begun.add(name)
        dep = folder / f"{name}.tcz.dep"
        for line in dep.read_text().splitlines() if dep.is_file() else []:
            needed = line.strip().removesuffix(".tcz")
            if needed:
                visit(f"{needed.removesuffix('-KERNEL')}-{release}" if needed.endswith("-KERNEL") else needed)
        done[name] = None

    for name in names:
        visit(name)
    return list(done)


def boot_files(root: RootFs, names: Sequence[str], release: str) -> list[Member]:
    """Return what makes Tiny Core's tce-setup finish the extensions `names` extracted into `root`.

    /tmp/setup.lst runs their scripts, in order; /etc/sysconfig/newmodules asks for depmod.
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
    """Return /tmp/builtin with the files `tczs` (and their .dep, .md5.txt), loading `onboot` at boot.

    onboot: names without .tcz, in order.  Raises `UserError` if one is not among `tczs`.
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
