"""Two extensions that bring the same path: which of them is seen would be chance.

tce-load leaves what is there (`cp -ais`), so of two files the one loaded first wins, and
of a file and a folder the other extension loses all it has below it.  Folders in both
are merged, and a path that is the same in both (kind, mode, owner, content) does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.config import plan
from tasks.config.settings import Settings
from tasks.formats.cpio import Member
from tasks.formats.squashfs import squashfs_members
from tasks.origins.lock import load_lock
from tasks.util.errors import UserError
from tasks.util.log import logger

SHOWN = 5


@dataclass(frozen=True)
class Clash:
    """Two extensions, by name without .tcz, and the paths both bring, sorted."""

    first: str
    second: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        more = len(self.paths) - SHOWN
        some = ", ".join(self.paths[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        return f"{self.first}.tcz and {self.second}.tcz both bring {some}"


def check(settings: Settings, names: Sequence[str]) -> None:
    """Check that built extensions can be loaded together, in whatever order.

    names: without .tcz, with all they depend on.  Two upstream extensions that bring
    different files at one path are only warned of: nobody here can change them, and the
    mirrors have such pairs.  Raises `UserError`, naming both, if one is made here, and for
    one that is not built.
    """
    found = among({name: listing(settings, name) for name in names})
    if not found:
        return
    upstream = _upstream(settings)
    read: dict[str, dict[str, Member]] = {}
    bad = []
    for clash in found:
        for name in (clash.first, clash.second):
            if name not in read:
                read[name] = {
                    member.name: member for member in squashfs_members(settings.tcz / f"{name}.tcz")
                }
        one, other = read[clash.first], read[clash.second]
        paths = tuple(path for path in clash.paths if not _same(one.get(path), other.get(path)))
        if not paths:
            continue
        clash = replace(clash, paths=paths)
        if {clash.first, clash.second} <= upstream:
            logger.warning(f"{clash}, and they differ; the one that is loaded first wins")
        else:
            bad.append(clash)
    if bad:
        own = [name for name in (bad[0].first, bad[0].second) if name not in upstream]
        hint = f"leave it out of {' or '.join(own)}: `drop` in the recipe; or place only one of them"
        raise UserError(str(bad[0]), hint, "\n".join(f"  {clash}" for clash in bad[1:]))


def refuse(listings: Mapping[str, Sequence[str]]) -> None:
    """Raise `UserError` if a path stands in two of `listings` (name -> paths, folders left out)."""
    for clash in among(listings):
        raise UserError(
            str(clash), "leave it out of one of them: `drop` in its recipe; or make one depend on the other"
        )


def among(listings: Mapping[str, Sequence[str]]) -> list[Clash]:
    """Return all pairs of `listings` (name -> paths, folders left out) that share a path, in their order.

    A path that is a file in one and a folder of the other counts.
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
    return [Clash(*pair, tuple(sorted(shared[pair]))) for pair in pairs]


def listing(settings: Settings, name: str) -> list[str]:
    """Return the paths in a built extension, folders left out.  Raises `UserError` if it is not built."""
    path = settings.tcz / f"{name}.tcz.list"
    if not path.is_file():
        raise UserError(f"extension {name} is not built yet", f"./doit tcz:{name}")
    return path.read_text().splitlines()


def _upstream(settings: Settings) -> set[str]:
    """Return the names of extensions that are taken from the mirrors, by tce.plan's rules."""
    locked = {item.name for item in load_lock(settings.used_lock).extension}
    own = {item.name for item in settings.profile.extensions if item.origin == "recipe"}
    return locked - own - set(plan.module_extensions(settings.profile))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def _same(one: Member | None, other: Member | None) -> bool:
    """Tell whether two members are the same, apart from their times and links."""
    if one is None or other is None:
        return False
    both = [
        (item.mode, item.uid, item.gid, item.data, item.rdevmajor, item.rdevminor) for item in (one, other)
    ]
    return both[0] == both[1]
