# SPDX-License-Identifier: MIT
"""The base of a core: the archives that it begins with, and the root that the kernel unpacks from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tasks.config import inputs
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats.cpio import Member
from tasks.formats.initramfs_file import Archive, has_microcode, is_early, merged, streams, unpacked
from tasks.formats.initramfs_unpacker import RootFs
from tasks.initramfs.parts import arranged
from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.text import shortened

MODULE = re.compile(r"(usr/)?lib/modules/.")
SHOWN = 5

Stream = tuple[bytes, list[Archive]]
"""The bytes of a stream, and the archives in it."""


def read_base(paths: Paths, profile: Profile, release: str) -> tuple[list[bytes | list[Member]], RootFs]:
    """Return the base and the root that the kernel unpacks from it.

    The base is a list in order: bytes of a stream to keep, or members of an archive to rewrite.
    Archives of microcode come first, as they are: the kernel reads them before it unpacks
    anything.  Raises `UserError` if an archive is damaged, or if the kernel would not find
    the microcode in one.
    """
    base = [stream for path in inputs.base_archives(paths, profile) for stream in streams(path)]
    early, rest = _divided(base)
    root = unpacked(archive for _, archives in rest for archive in archives)
    if root.lost:
        logger.info(f"core: the kernel loses {len(root.lost)} members of the base:\n{list_lines(root.lost)}")
    image = profile.kernel.image
    its_own = image is not None and image.modules_in_base and profile.kernel.modules == "core"
    dropped = [] if its_own else drop_modules(root)
    if dropped:
        # The kernel cannot load modules of another release.  Modules of the same release from
        # another configuration could crash it.
        names = shortened(dropped, SHOWN)
        logger.info(f"core: dropped lib/modules/{names} of the base, the kernel built here is {release}")
        _report_other_kernel(root, dropped, release)
    rows = _rows(rest, root, recompress=profile.core.recompress, dropped=bool(dropped))
    for _, archives in early:
        for archive in archives:
            root.unpack(archive.members)
    return [*(stream for stream, _ in early), *rows], root


def _divided(base: Sequence[Stream]) -> tuple[list[Stream], list[Stream]]:
    """Return the streams of microcode, and the others.  Raises `UserError` for microcode in one of those."""
    early, rest = [], []
    for stream, archives in base:
        if all(is_early(one) and one.method == "plain" for one in archives):
            early.append((stream, archives))
            continue
        rest.append((stream, archives))
        for one in archives:
            if is_early(one) or has_microcode(one):
                how = "among other files" if one.method == "plain" else f"compressed by {one.method}"
                raise UserError(
                    f"an archive of the base has microcode {how}, so the kernel would not find it",
                    "give it as an archive of its own in core.archives, plain, with only kernel/ in it",
                )
    return early, rest


def _rows(
    base: Sequence[Stream], root: RootFs, *, recompress: bool, dropped: bool
) -> list[bytes | list[Member]]:
    """Return the streams of `base` that can stay, and the members of those that cannot.

    root: what the kernel unpacks from `base`, without modules if some were dropped.
    """
    everything = arranged(root.members().values())
    # Nothing may follow lz4 (see `core.append`).
    if recompress or any(inside[-1].method == "lz4" for _, inside in base):
        return [everything]
    if not dropped:
        return [stream for stream, _ in base]
    rows: list[bytes | list[Member]] = []
    left: list[Sequence[Member]] = []
    for stream, archives in base:
        without = [[m for m in a.members if not MODULE.match(m.name)] for a in archives]
        same = all(len(a.members) == len(b) for a, b in zip(archives, without, strict=True))
        new = without if same else [arranged(members) for members in without]
        rows += [stream] if same else new
        left += new
    return rows if _unpack_to(left, root) else [everything]


def _unpack_to(rows: Iterable[Sequence[Member]], root: RootFs) -> bool:
    """Return whether archives of `rows` unpack to `root`, if times are ignored."""
    made = merged(Archive("plain", tuple(row)) for row in rows)
    wanted = root.members()
    return made.keys() == wanted.keys() and all(
        replace(member, mtime=0) == replace(wanted[name], mtime=0) for name, member in made.items()
    )


def _report_other_kernel(root: RootFs, dropped: Sequence[str], release: str) -> None:
    """Log which parts of a base expect its own kernel and may not work with the profile's."""
    if release in dropped:
        # Without CONFIG_MODVERSIONS a kernel loads every module that names its release.
        logger.info(
            f"core: the mirrors' NAME-{release}.tcz belong to the base's own kernel, whose configuration "
            "differs: use the modules built here"
        )
        return
    text = f"core: `tce-load -w NAME-KERNEL` will look for NAME-{release}.tcz, which mirrors may not have"
    logger.info(text)
    scripts = [
        name
        for name, member in root.members().items()
        if member.data.startswith(b"#!") and any(old.encode() in member.data for old in dropped)
    ]
    if scripts:
        logger.info(
            f"core: scripts of the base that name its own kernel's release: {shortened(scripts, SHOWN)}"
        )


def drop_modules(root: RootFs) -> list[str]:
    """Remove the content of lib/modules from `root`.  Return the releases it had."""
    folder = root.find("lib/modules", follow=True)
    if folder is None:
        return []
    releases = sorted(folder.children)
    folder.children.clear()
    return releases


def list_lines(items: Sequence[str]) -> str:
    """Return the first items, one a line, and the number of the others."""
    more = len(items) - SHOWN
    lines = [f"  {item}" for item in items[:SHOWN]]
    return "\n".join([*lines, *([f"  and {more} more"] if more > 0 else [])])
