# SPDX-License-Identifier: MIT
"""Random trees of archive members for hypothesis: every type, odd names, hard links."""

from __future__ import annotations

import stat
from dataclasses import replace

from hypothesis import strategies as st

from tasks.formats import cpio
from tasks.formats.cpio import Member

PARTS = st.one_of(
    st.sampled_from(["a", "b", "bin", "a b", "-x", "a\nb", "é", "...", "TRAILER!!"]),
    st.binary(min_size=1, max_size=6)
    .filter(lambda raw: not {0, 0x2F} & set(raw) and raw not in (b".", b".."))
    .map(cpio.decode),
)
NUMBERS = st.integers(0, cpio.MAX_FIELD)
PERMISSIONS = st.sampled_from([0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o600, 0])
LEAVES = st.sampled_from([stat.S_IFREG] * 4 + [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
TARGETS = st.binary(min_size=1, max_size=9).filter(lambda raw: 0 not in raw)


@st.composite
def leaves(draw: st.DrawFn, name: str) -> Member:
    """One member that is no folder."""
    kind = draw(LEAVES)
    member = Member(name, kind | draw(PERMISSIONS), draw(NUMBERS), draw(NUMBERS), mtime=draw(NUMBERS))
    if kind == stat.S_IFREG:
        return replace(member, data=draw(st.binary(max_size=20)))
    if kind == stat.S_IFLNK:
        return replace(member, mode=kind | 0o777, data=draw(TARGETS))
    if kind == stat.S_IFIFO:
        return member
    return replace(member, rdevmajor=draw(st.integers(0, 4095)), rdevminor=draw(st.integers(0, 1 << 19)))


@st.composite
def trees(draw: st.DrawFn) -> list[Member]:
    """A whole tree, every parent folder in it, some files under several names."""
    paths = draw(st.lists(st.lists(PARTS, min_size=1, max_size=3), max_size=8))
    names = {"/".join(path) for path in paths}
    folders = {name.rsplit("/", depth)[0] for name in names for depth in range(1, name.count("/") + 1)}
    folders |= {name for name in names - folders if draw(st.booleans())}
    members = [
        replace(cpio.directory(name, draw(PERMISSIONS), draw(NUMBERS), draw(NUMBERS)), mtime=draw(NUMBERS))
        for name in sorted(folders)
    ]
    spare = sorted(names - folders)
    ino = 0
    while spare:
        ino += 1
        count = draw(st.integers(1, min(3, len(spare))))
        group, spare = spare[:count], spare[count:]
        first = draw(leaves(group[0]))
        if count == 1:
            members.append(first)
        elif first.kind == stat.S_IFLNK:
            members += [replace(first, name=name) for name in group]
        else:
            members += cpio.hard_links(first, group, ino)
    return members
