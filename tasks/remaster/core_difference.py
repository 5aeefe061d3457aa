# SPDX-License-Identifier: MIT
"""What a core has apart from that of its release: members added, changed and removed."""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.config import inheritance, profile
from tasks.formats.cpio import Member
from tasks.formats.initramfs_file import is_early, merged, read_core
from tasks.origins.lock import load_lock
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError

MODULES = re.compile(r"(?:usr/)?lib/modules/([^/]+)/")
RELEASE_FILES = ("usr/share/doc/tc/release.txt", "etc/os-release")
SAME = "the same as that of the release"


@dataclass(frozen=True)
class Difference:
    """base: the name of what was compared with; lines: one a member, `+`, `~` or `-` before its path."""

    base: str
    lines: tuple[str, ...]

    def summary(self) -> str:
        """Return the counts as one line."""
        count = Counter(line[0] for line in self.lines)
        said = [
            f"{count[mark]} {word}" for mark, word in zip("+~-", ("added", "changed", "removed"), strict=True)
        ]
        return f"against {self.base}: {', '.join(said) if self.lines else SAME}"


def members(paths: Sequence[Path]) -> dict[str, Member]:
    """Return what the kernel unpacks from core files, one after the other.

    Archives of microcode do not count.  Raises `UserError` if one is damaged.
    """
    archives = [archive for path in paths for archive in read_core(path)]
    return merged(archive for archive in archives if not is_early(archive))


def compare(base: str, before: Mapping[str, Member], after: Mapping[str, Member]) -> Difference:
    """Return the difference between the members of two roots; their times do not count.

    Kernel modules that only one of them has are one line for each release.
    """
    lines = [f"+ {line}" for line in _listed(after, before)]
    for name, member in after.items():
        if name in before and (changes := list(_changes(before[name], member))):
            lines.append(f"~ {name} ({', '.join(changes)})")
    lines += [f"- {line}" for line in _listed(before, after)]
    return Difference(base, tuple(lines))


def _listed(these: Mapping[str, Member], those: Mapping[str, Member]) -> Iterator[str]:
    """Yield a line for each of `these` that `those` lack."""
    kept = {found[1] for name in those if (found := MODULES.match(name))}
    modules: Counter[str] = Counter()
    for name, member in these.items():
        found = MODULES.match(name)
        if name in those:
            continue
        if found and found[1] not in kept:
            modules[found[1]] += member.kind == stat.S_IFREG
        elif member.kind == stat.S_IFREG:
            yield f"{name} ({len(member.data):,} bytes)"
        elif member.kind == stat.S_IFLNK:
            yield f"{name} -> {member.data.decode('utf-8', 'replace')}"
        else:
            yield f"{name}/" if member.kind == stat.S_IFDIR else name
    for release, count in modules.items():
        yield f"lib/modules/{release} ({count:,} files)"


def _changes(before: Member, after: Member) -> Iterator[str]:
    if before.kind != after.kind:
        yield "another kind of file"
    elif before.mode != after.mode:
        yield f"mode {stat.S_IMODE(before.mode):o} -> {stat.S_IMODE(after.mode):o}"
    if (before.uid, before.gid) != (after.uid, after.gid):
        yield f"owner {before.uid}:{before.gid} -> {after.uid}:{after.gid}"
    if before.data != after.data or (before.rdevmajor, before.rdevminor) != (
        after.rdevmajor,
        after.rdevminor,
    ):
        yield "content"


def known_bases(cache: Path) -> Iterator[tuple[str, Path]]:
    """Yield the base archives of all profiles that lie in the cache or on this machine, with names."""
    for name in profile.names():
        try:
            made = profile.load(name)
            lock = load_lock(inheritance.pinned_lock(CHECKOUT.folders("profiles"), name))
        except UserError:  # another profile is broken, which is nothing to an import
            continue
        for source in () if made.imported else made.core.archives:
            entry = source.locked_in(lock)
            path = source.local_file() if source.is_local else entry.cached_in(cache) if entry else None
            if path is not None and path.is_file():
                yield f"{path.name} of profile {name}", path


def against_release(cache: Path, root: Mapping[str, Member], given: Path | None) -> Difference | None:
    """Return the difference from the core of the same release, None if there is none to compare with.

    given: the core to compare with, whatever its release is.  Raises `UserError` if it is damaged.
    """
    if given is not None:
        return compare(given.name, members([given]), root)
    for label, path in known_bases(cache):
        try:
            base = members([path])
        except UserError:
            continue
        if release(base) and release(base) == release(root):
            return compare(label, base, root)
    return None


def release(root: Mapping[str, Member]) -> bytes:
    """Return what a root says about its release, b"" if it says nothing."""
    return next((root[name].data.strip() for name in RELEASE_FILES if name in root), b"")
