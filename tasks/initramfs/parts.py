"""The parts of a core file: small archives, each compressed by itself and kept for the next build.

The kernel unpacks any number of archives one after the other, so a core need not be one
stream.  Its members are cut into parts at places that depend on the members alone; a part
that was compressed before is taken from a folder of parts, the others are compressed on all
cores.  What is written depends neither on the number of cores nor on what was built before.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from tasks.formats import compression, cpio
from tasks.formats.cpio import LinkKey, Member, by_path
from tasks.formats.initramfs_file import ALIGNMENT
from tasks.util import jobserver, parallel
from tasks.util.files import atomic_path, remove_tree

HASHES = 1 << 32
SIZES = {"xz": 8 << 20, "zstd": 8 << 20}
SIZE = 1 << 20
"""Bytes, on the average, of a part before compression.  gzip looks back 32 KiB, so that cuts
cost it nearly nothing; xz and zstd look back 8 MiB at their default levels."""


class Parts:
    """A folder of compressed archives, each under the digest of all it is made of.

    A file is called KEY.DIGEST: the sha256 of content and compression, and that of the file
    itself, so that a damaged one is noticed and made again.
    """

    def __init__(self, folder: Path, method: str, level: int | None, mtime: int) -> None:
        """Raises `UserError` for a method or level that `compression.compress` refuses."""
        self.folder = folder
        self.method = method
        self.level = compression.checked_level(method, level)
        self.mtime = mtime
        self.size = SIZES.get(method, SIZE)
        self._maker = f"{compression.compressor(method)} level {self.level}\n".encode()
        names = os.listdir(folder) if folder.is_dir() else []
        self._kept = {name.partition(".")[0]: name for name in names}
        self._used: set[str] = set()
        self.made: list[str] = []
        """Names of the parts that were compressed, not found."""

    def pack(self, layers: Sequence[Sequence[Member]]) -> list[bytes]:
        """Return each layer as archives one after the other, padded so that they can be joined.

        A layer is what one archive could hold, in the order the kernel is to unpack it:
        no name twice, folders before what they hold.
        """
        parts = [(number, part) for number, layer in enumerate(layers) for part in split(layer, self.size)]
        with jobserver.tokens() as threads:
            packed = parallel.each(lambda item: self._packed(item[1]), parts, threads)
        rows: list[list[bytes]] = [[] for _ in layers]
        for (number, _), data in zip(parts, packed, strict=True):
            rows[number].append(data)
        return [joined(row) for row in rows]

    def summary(self) -> str:
        """Return in words how much had to be compressed."""
        return f"{len(self.made)} of {len(self._used)} parts compressed"

    def tidy(self) -> None:
        """Remove what `pack` has not used."""
        for name in os.listdir(self.folder) if self.folder.is_dir() else []:
            if name not in self._used:
                remove_tree(self.folder / name)

    def _packed(self, members: Sequence[Member]) -> bytes:
        plain = cpio.write(members, mtime=self.mtime, in_order=True)
        if self.method == "plain":
            return plain
        key = hashlib.sha256(self._maker + plain).hexdigest()
        name = self._kept.get(key, "")
        if name:
            data = (self.folder / name).read_bytes()
            if name == _name(key, data):
                self._used.add(name)
                return data
        data = compression.compress(plain, self.method, self.level)
        name = _name(key, data)
        # What a crash has cut short does not fit its name, so fsync would only cost time.
        with atomic_path(self.folder / name, sync=False) as partial:
            partial.write_bytes(data)
        self._used.add(name)
        self.made.append(name)
        return data


def _name(key: str, data: bytes) -> str:
    return f"{key}.{hashlib.sha256(data).hexdigest()}"


def joined(pieces: Iterable[bytes]) -> bytes:
    """Return archives one after the other, zero bytes between, as the kernel wants them."""
    return b"".join(piece + bytes(-len(piece) % ALIGNMENT) for piece in pieces)


def arranged(members: Iterable[Member]) -> list[Member]:
    """Return the members of one tree so that it can be cut: folders first, hard links together.

    Nothing else depends on the order: each name stands there once.
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
    """Cut a row of members into parts of about `size` bytes; joined again they are the row.

    Whether there is a cut beside a file depends on its name and size alone, so that a file
    that comes, goes or changes leaves all other parts as they are.  A file of `size` or more
    stands alone; the names of a hard-linked file, which must follow each other, stay together.
    """
    parts: list[list[Member]] = [[]]
    for unit in _units(members):
        length = sum(cpio.HEADER + len(cpio.encode(m.name)) + len(m.data) for m in unit)
        if length >= size and parts[-1]:
            parts.append([])
        parts[-1] += unit
        # Of units so long, one in size / length ends a part.
        digest = hashlib.sha256(cpio.encode(unit[0].name)).digest()
        if int.from_bytes(digest[:4], "big") * size < length * HASHES:
            parts.append([])
    return parts if parts[-1] else parts[:-1]


def _units(members: Sequence[Member]) -> Iterable[list[Member]]:
    """Yield the members one by one, names of one hard-linked file together."""
    unit: list[Member] = []
    for member in members:
        if unit and (member.link_key is None or member.link_key != unit[-1].link_key):
            yield unit
            unit = []
        unit.append(member)
    if unit:
        yield unit
