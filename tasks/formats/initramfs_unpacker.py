# SPDX-License-Identifier: MIT
"""A model of the kernel's initramfs unpacker, init/initramfs.c.

The kernel unpacks archives one over the other into a file system in memory, so the result of
a member depends on earlier members: an existing folder keeps its content, a symlink in a path
is followed, and some members are silently lost.  `RootFs` follows the kernel's steps
(clean_path, maybe_link, do_name, do_symlink) and lists the lost members.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator

from tasks.formats.cpio import NAME_MAX, LinkKey, Member, by_path, decode, encode

MAXSYMLINKS = 40  # include/linux/namei.h
FOLDER_STAYS = "a folder that is not empty is in its place"


class Node:
    """An inode; its names are the entries of `children` that refer to it."""

    def __init__(self, mode: int, rdev: tuple[int, int] = (0, 0), data: bytes = b"") -> None:
        self.mode = mode
        self.uid = 0
        self.gid = 0
        self.mtime = 0
        self.rdev = rdev
        self.data = data
        self.children: dict[str, Node] = {}

    @property
    def kind(self) -> int:
        return stat.S_IFMT(self.mode)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def set_attributes(self, member: Member) -> None:
        """Set owner, permissions and time to those of a member."""
        self.mode = self.kind | stat.S_IMODE(member.mode)
        self.uid, self.gid, self.mtime = member.uid, member.gid, member.mtime


class RootFs:
    """The root file system after the archives given to `unpack`.

    root_given: whether an archive has a member for the root folder.
    lost: one line for each member that was not unpacked as its archive describes it.
    """

    def __init__(self) -> None:
        self.root = Node(stat.S_IFDIR | 0o755)
        self.root_given = False
        self.lost: list[str] = []

    def unpack(self, members: Iterable[Member]) -> None:
        """Unpack one archive over the existing files; its TRAILER!!! ends its hard links."""
        links: dict[LinkKey, str] = {}
        for member in members:
            problem = self._unpack_one(member, links)
            if problem:
                self.lost.append(f"{member.name!r}: {problem}")

    def find(self, name: str, *, follow: bool = False) -> Node | None:
        """Return the node at `name`, None if there is none; `follow`: also follow the last symlink."""
        place = self._walk(name, follow)
        return place[2] if place else None

    def members(self) -> dict[str, Member]:
        """Return the whole tree by name, sorted by path; inodes count from 1."""
        found = sorted(self._below(self.root, ""), key=lambda item: by_path(item[0]))
        names: dict[int, int] = {}
        for _, node in found:
            names[id(node)] = names.get(id(node), 0) + 1
        inodes: dict[int, int] = {}
        result: dict[str, Member] = {}
        if self.root_given:
            found.insert(0, (".", self.root))
        for name, node in found:
            ino = inodes.setdefault(id(node), len(inodes) + 1)
            nlink = 2 if node.is_dir else names[id(node)]
            result[name] = Member(
                name=name,
                mode=node.mode,
                uid=node.uid,
                gid=node.gid,
                nlink=nlink,
                mtime=node.mtime,
                data=node.data,
                rdevmajor=node.rdev[0],
                rdevminor=node.rdev[1],
                ino=ino,
            )
        return result

    def remove(self, name: str) -> None:
        """Remove `name` and all below it."""
        place = self._walk(name, False)
        if place and place[2] is not None:
            del place[0].children[place[1]]

    def _below(self, folder: Node, prefix: str) -> Iterator[tuple[str, Node]]:
        for name, node in folder.children.items():
            yield prefix + name, node
            yield from self._below(node, f"{prefix}{name}/")

    def _walk(self, name: str, follow: bool) -> tuple[Node, str, Node | None] | None:
        """Resolve a path to (folder, last part, its node or None); None if the folder is missing."""
        stack = [self.root]
        rest = name.split("/")[::-1]
        links = 0
        while rest:
            part = rest.pop()
            folder = stack[-1]
            if not folder.is_dir:
                return None
            if part in ("", "."):
                continue
            if part == "..":
                del stack[max(1, len(stack) - 1) :]
                continue
            node = folder.children.get(part)
            if node is None:
                return None if rest else (folder, part, None)
            if node.kind == stat.S_IFLNK and (rest or follow):
                links += 1
                if links > MAXSYMLINKS:
                    return None
                target = decode(node.data)
                if target.startswith("/"):
                    del stack[1:]
                rest += target.split("/")[::-1]
                continue
            if not rest:
                return folder, part, node
            stack.append(node)
        return stack[-1], ".", stack[-1]

    def _unpack_one(self, member: Member, links: dict[LinkKey, str]) -> str:
        """Do the steps of do_name() and do_symlink(); return the problem, or ""."""
        too_long = any(len(part) > NAME_MAX for part in encode(member.name).split(b"/"))
        place = None if too_long else self._walk(member.name, False)
        if place is None:
            if member.link_key is not None:  # the member is lost, but later names link to it
                links.setdefault(member.link_key, member.name)
            return "its name is too long" if too_long else "its folder does not exist"
        folder, last, node = place
        if last == ".":
            if member.kind != stat.S_IFDIR:
                return "a folder is in its place"
            self.root_given = True
        if member.kind == stat.S_IFLNK:
            return self._symlink(member, folder, last, _clean_path(folder, last, node, 0))
        node = _clean_path(folder, last, node, member.kind)
        if member.kind == stat.S_IFDIR:
            if node is None:
                node = folder.children[last] = Node(member.mode)
            node.set_attributes(member)
            return ""
        if member.kind == stat.S_IFREG:
            return self._regular(member, folder, last, node, links)
        return self._special(member, folder, last, node, links)

    def _symlink(self, member: Member, folder: Node, last: str, node: Node | None) -> str:
        if node is not None:
            node.uid, node.gid = member.uid, member.gid  # the kernel calls lchown even so
            return FOLDER_STAYS
        if not member.data:
            return "a symlink without a target"
        link = folder.children[last] = Node(stat.S_IFLNK | 0o777, data=member.data)
        link.uid, link.gid, link.mtime = member.uid, member.gid, member.mtime
        return ""

    def _maybe_link(
        self, member: Member, folder: Node, last: str, node: Node | None, links: dict[LinkKey, str]
    ) -> Node | str | None:
        """Return the file linked to, None for a first name, or the problem as text."""
        key = member.link_key
        if key is None:
            return None
        if key not in links:
            links[key] = member.name
            return None
        left = _clean_path(folder, last, node, 0)
        target = self.find(links[key])
        if left is not None:
            return FOLDER_STAYS
        if target is None or target.kind != member.kind:
            return f"it cannot be linked to {links[key]!r}, which was replaced or lost"
        folder.children[last] = target
        return target

    def _regular(
        self, member: Member, folder: Node, last: str, node: Node | None, links: dict[LinkKey, str]
    ) -> str:
        linked = self._maybe_link(member, folder, last, node, links)
        if isinstance(linked, str):
            return linked
        node = linked or node
        if node is None:
            node = folder.children[last] = Node(stat.S_IFREG)
        if node.is_dir:
            return FOLDER_STAYS
        # The kernel writes into an existing file, so its other names change as well.
        node.data = member.data if member.data or not linked else node.data
        node.set_attributes(member)
        return ""

    def _special(
        self, member: Member, folder: Node, last: str, node: Node | None, links: dict[LinkKey, str]
    ) -> str:
        linked = self._maybe_link(member, folder, last, node, links)
        if isinstance(linked, str):
            return linked
        if linked:
            return ""
        rdev = (member.rdevmajor, member.rdevminor)
        if node is None:
            node = folder.children[last] = Node(member.mode, rdev)
        node.set_attributes(member)  # the kernel calls chown and chmod even if mknod failed with EEXIST
        if node.is_dir:
            return FOLDER_STAYS
        if node.rdev != rdev:
            return f"the earlier device {node.rdev[0]}:{node.rdev[1]} stays, instead of {rdev[0]}:{rdev[1]}"
        return ""


def _clean_path(folder: Node, last: str, node: Node | None, kind: int) -> Node | None:
    """Do clean_path(): remove a node of another type, unless it is a folder with content."""
    if node is None or node.kind == kind or (node.is_dir and node.children):
        return node
    del folder.children[last]
    return None
