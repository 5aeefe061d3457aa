# SPDX-License-Identifier: MIT
"""The parts of a core file: small archives, compressed one by one and cached for the next build.

The kernel unpacks any number of archives one after the other, so a core need not be one stream.
The members are split into parts, and the members alone decide where.  A part that was compressed
before comes from a cache folder.  The others are compressed on all processors.  The result
depends neither on the number of processors nor on earlier builds.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.engine import code
from tasks.formats import compression, cpio
from tasks.formats.cpio import LinkKey, Member, by_path
from tasks.formats.initramfs_file import ALIGNMENT
from tasks.toolchain import tools
from tasks.toolchain.tools import Tools
from tasks.util import jobserver, parallel
from tasks.util.files import atomic_path, remove_tree

HASHES = 1 << 32
SIZES = {"xz": 8 << 20, "zstd": 8 << 20}
SIZE = 1 << 20
"""The average size of a part before compression, in bytes.  gzip looks back 32 KiB, so small parts
hardly enlarge its output; xz and zstd look back 8 MiB at their default levels."""


class Parts:
    """A cache folder of compressed archives.

    A file is called KEY.DIGEST.  KEY is the sha256 of the uncompressed archive, the compressor
    and tcbuild's code that calls it.  DIGEST is the sha256 of the file, so that a damaged file is
    detected and replaced.
    """

    def __init__(
        self, folder: Path, method: str, level: int | None, mtime: int, programs: Tools | None = None
    ) -> None:
        """Open the cache `folder`, which need not exist.

        method, level: of compression; mtime: of all members, in seconds since 1970; programs: their xz
        replaces Python's own library, whose version is that of the machine.  Raises `UserError` for a
        method or level that `compression.compress` refuses.
        """
        self.folder = folder
        self.method = method
        self.level = compression.checked_level(method, level)
        self.mtime = mtime
        self.size = SIZES.get(method, SIZE)
        self._xz = programs if method == "xz" else None
        compressor = compression.compressor(method)
        if self._xz is not None:
            compressor = self._xz.run(["xz", "--version"]).stdout
        made_by = f"{compressor} level {self.level} {code.digest(compression.__name__)}"
        self._compressor = f"{made_by}\n".encode()
        names = os.listdir(folder) if folder.is_dir() else []
        self._cached = {name.partition(".")[0]: name for name in names}
        self._used: set[str] = set()
        self.compressed: list[str] = []
        """Names of the parts that were not in the cache."""

    def pack(self, layers: Sequence[Sequence[Member]]) -> list[bytes]:
        """Return the compressed archives of each layer, joined and padded so that layers can be joined.

        A layer holds the members of one archive in the order in which the kernel unpacks them: no
        name comes twice, and a folder comes before its content.
        """
        parts = [(number, part) for number, layer in enumerate(layers) for part in split(layer, self.size)]
        with jobserver.tokens() as threads:
            packed = parallel.each(lambda item: self._pack_part(item[1]), parts, threads)
        rows: list[list[bytes]] = [[] for _ in layers]
        for (number, _), data in zip(parts, packed, strict=True):
            rows[number].append(data)
        return [joined(row) for row in rows]

    def summary(self) -> str:
        """Return a phrase for the log: how many of the parts were compressed."""
        return f"{len(self.compressed)} of {len(self._used)} parts compressed"

    def remove_unused(self) -> None:
        """Remove the cached parts that `pack` has not used."""
        for name in os.listdir(self.folder) if self.folder.is_dir() else []:
            if name not in self._used:
                remove_tree(self.folder / name)

    def _pack_part(self, members: Sequence[Member]) -> bytes:
        plain = cpio.write(members, mtime=self.mtime, in_order=True)
        if self.method == "plain":
            return plain
        key = hashlib.sha256(self._compressor + plain).hexdigest()
        name = self._cached.get(key, "")
        if name:
            data = (self.folder / name).read_bytes()
            if name == _name(key, data):
                self._used.add(name)
                return data
        if self._xz is not None:
            data = self._xz.xz(plain, self.level)
        else:
            data = compression.compress(plain, self.method, self.level)
        name = _name(key, data)
        # No fsync: after a crash a file that was cut short does not match the digest in its name.
        with atomic_path(self.folder / name, sync=False) as partial:
            partial.write_bytes(data)
        self._used.add(name)
        self.compressed.append(name)
        return data


def of_profile(paths: Paths, profile: Profile, name: str) -> Parts:
    """Return the parts of the file `name` of the profile, `core` or `rootfs`."""
    core = profile.core
    programs = tools.of_profile(paths, profile) if core.compression == "xz" else None
    return Parts(paths.core_parts / name, core.compression, core.level, profile.source_date_epoch, programs)


def _name(key: str, data: bytes) -> str:
    return f"{key}.{hashlib.sha256(data).hexdigest()}"


def joined(pieces: Iterable[bytes]) -> bytes:
    """Return archives one after the other, each padded with zero bytes as the kernel requires."""
    return b"".join(piece + bytes(-len(piece) % ALIGNMENT) for piece in pieces)


def arranged(members: Iterable[Member]) -> list[Member]:
    """Return the members of one tree in an order that `split` can cut: folders first, hard links together.

    No name may come twice, so the kernel unpacks the same tree from any such order.
    """
    folders, others = [], []
    first: dict[LinkKey, tuple[bytes, ...]] = {}
    for member in sorted(members, key=lambda member: by_path(member.name)):
        if member.kind == stat.S_IFDIR:
            folders.append(member)
            continue
        path = by_path(member.name)
        group = path if member.link_key is None else first.setdefault(member.link_key, path)
        others.append((group, path, member))
    return [*folders, *(member for _, _, member in sorted(others, key=lambda item: item[:2]))]


def split(members: Sequence[Member], size: int) -> list[list[Member]]:
    """Split `members` into parts of about `size` bytes, in order.

    A file's name and size alone decide whether a part ends beside it.  So a new, removed or
    changed file changes no other part.  A file of `size` bytes or more has a part of its own.
    The names of a hard-linked file must follow each other and stay in one part.
    """
    parts: list[list[Member]] = [[]]
    for unit in _units(members):
        length = sum(cpio.HEADER + len(cpio.encode(m.name)) + len(m.data) for m in unit)
        if length >= size and parts[-1]:
            parts.append([])
        parts[-1] += unit
        # One unit of this length in `size / length` ends a part.
        digest = hashlib.sha256(cpio.encode(unit[0].name)).digest()
        if int.from_bytes(digest[:4], "big") * size < length * HASHES:
            parts.append([])
    return parts if parts[-1] else parts[:-1]


def _units(members: Sequence[Member]) -> Iterable[list[Member]]:
    """Yield each member as a list of one, but all names of a hard-linked file as one list."""
    unit: list[Member] = []
    for member in members:
        if unit and (member.link_key is None or member.link_key != unit[-1].link_key):
            yield unit
            unit = []
        unit.append(member)
    if unit:
        yield unit
