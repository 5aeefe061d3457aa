# SPDX-License-Identifier: MIT
"""Find paths that two extensions both contain; the loading order would decide between them.

tce-load does not replace existing paths (`cp -ais`).  Of two files at one path, the file loaded
first wins.  Of a file and a folder at one path, the extension loaded later loses all that it
has there.  Folders in both are merged.  A path that is equal in both (type, mode, owner,
content) is no conflict.

The base comes before all extensions.  Where it has a link to BusyBox, a program of an extension
would never start.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.config import plan
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.formats import cpio
from tasks.formats.cpio import Member
from tasks.formats.initramfs_unpacker import RootFs
from tasks.formats.squashfs import squashfs_members
from tasks.formats.tcz import name_of_task
from tasks.origins.lock import load_lock
from tasks.util.errors import UserError
from tasks.util.log import logger
from tasks.util.text import shortened

MAX_SHOWN = 5


@dataclass(frozen=True)
class Conflict:
    """Two extensions, by name without .tcz, and the paths both contain, sorted."""

    first: str
    second: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        some = shortened(self.paths, MAX_SHOWN)
        return f"{self.first}.tcz and {self.second}.tcz both contain {some}"


def check(paths: Paths, profile: Profile, names: Sequence[str]) -> None:
    """Check that built extensions can be loaded together in any order.

    names: without .tcz, dependencies included.  A conflict of two upstream extensions is only a
    warning: the mirrors have such pairs, and tcbuild cannot change them.  Raises `UserError` for
    any other conflict, naming both extensions, and for an extension that is not built.
    """
    found = find({name: listing(paths, name) for name in names})
    if not found:
        return
    upstream = _upstream(paths, profile)
    read: dict[str, dict[str, Member]] = {}
    bad = []
    for conflict in found:
        for name in (conflict.first, conflict.second):
            if name not in read:
                read[name] = {member.name: member for member in squashfs_members(paths.tcz / f"{name}.tcz")}
        one, other = read[conflict.first], read[conflict.second]
        owners = tuple(path for path in conflict.paths if not _same(one.get(path), other.get(path)))
        if not owners:
            continue
        conflict = replace(conflict, paths=owners)
        if {conflict.first, conflict.second} <= upstream:
            logger.warning(f"{conflict} with different content; the extension loaded first wins")
        else:
            bad.append(conflict)
    if bad:
        own = [name for name in (bad[0].first, bad[0].second) if name not in upstream]
        hint = f"leave it out of {' or '.join(own)} with `drop` in the recipe, or place only one of the two"
        raise UserError(str(bad[0]), hint, "\n".join(f"  {conflict}" for conflict in bad[1:]))


def refuse(listings: Mapping[str, Sequence[str]]) -> None:
    """Raise `UserError` if two of `listings` (name -> paths without folders) share a path."""
    for conflict in find(listings):
        raise UserError(
            str(conflict),
            "leave it out of one of them with `drop` in its recipe, or make one depend on the other",
        )


def refuse_hidden(name: str, listing: Sequence[str], base: RootFs, *, own_root: bool) -> None:
    """Look for programs of the extension `name` that links to BusyBox in the base hide.

    listing: the extension's paths; own_root: whether rootfs/ makes the base.  Raises `UserError`
    then, and only warns of a base that others made.
    """
    hidden = [path for path in listing if _is_applet(base, path)]
    if not hidden:
        return
    some = shortened(hidden, MAX_SHOWN)
    if not own_root:
        logger.warning(
            f"{name}.tcz: BusyBox hides its {some}: the base has links there, which tce-load keeps"
        )
        return
    quoted = ", ".join(f'"{path}"' for path in hidden)
    raise UserError(
        f"extension {name}: BusyBox would hide its {some}: the base has links there, which tce-load keeps",
        f"add to busybox.without in rootfs/rootfs.toml: {quoted}",
    )


def _is_applet(base: RootFs, path: str) -> bool:
    node = base.find(path)
    if node is None or node.kind != stat.S_IFLNK or posixpath.basename(path).startswith("busybox"):
        return False
    return posixpath.basename(cpio.decode(node.data)).startswith("busybox")


def find(listings: Mapping[str, Sequence[str]]) -> list[Conflict]:
    """Return all pairs of `listings` (name -> paths without folders) that share a path, in their order.

    A path that is a file in one and a folder in the other counts, too.
    """
    owners: dict[str, list[str]] = {}
    for name, paths in listings.items():
        for path in paths:
            owners.setdefault(path, []).append(name)
    shared: dict[tuple[str, str], set[str]] = {}
    order = {name: number for number, name in enumerate(listings)}
    for name, paths in listings.items():
        for path in paths:
            for place in (path, *_parents(path)):
                for owner in owners.get(place, ()):
                    if owner != name:
                        pair = (owner, name) if order[owner] < order[name] else (name, owner)
                        shared.setdefault(pair, set()).add(place)
    pairs = sorted(shared, key=lambda pair: (order[pair[0]], order[pair[1]]))
    return [Conflict(*pair, tuple(sorted(shared[pair]))) for pair in pairs]


def listing(paths: Paths, name: str) -> list[str]:
    """Return the paths in a built extension, without folders.  Raises `UserError` if it is not built."""
    path = paths.tcz / f"{name}.tcz.list"
    if not path.is_file():
        raise UserError(f"extension {name} is not built yet", f"./doit tcz:{name_of_task(name)}")
    return path.read_text().splitlines()


def _upstream(paths: Paths, profile: Profile) -> set[str]:
    """Return the names of the extensions that come from the mirrors, as tasks/config/plan.py decides."""
    locked = {item.name for item in load_lock(paths.used_lock).extension}
    own = {item.name for item in profile.extensions if item.origin == "recipe"}
    return locked - own - set(plan.module_extensions(profile))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def _same(one: Member | None, other: Member | None) -> bool:
    """Return whether two members are equal except for times and links."""
    if one is None or other is None:
        return False
    both = [
        (item.mode, item.uid, item.gid, item.data, item.rdevmajor, item.rdevminor) for item in (one, other)
    ]
    return both[0] == both[1]
