# SPDX-License-Identifier: MIT
"""The layout of an ISO: the offsets of its files, and the areas outside all files.

xorriso only lists the directory tree.  Files are read from the ISO at the offsets that it
reports, so no link, device or name of an ISO is written to this machine's file system.
xorriso(1) describes the output of `-exec report_sections` and `-exec lsdl`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.util.errors import UserError
from tasks.util.files import CHUNK
from tasks.util.process import run

BLOCK = 2048  # bytes, ECMA-119's logical sector
SYSTEM_AREA = 16 * BLOCK
AREAS = (
    "system area (MBR, GPT)",
    "volume descriptors, boot catalog and directories",
    "padding and backup GPT, outside all files",
)
SECTION = re.compile(r"^File data lba: +(\d+) , +(\d+) , +(\d+) , +(\d+) , ('.*')$")
ENTRY = re.compile(r"^(.)[r-][w-]\S{7}[ +]+\d+ +\S+ +\S+ +\S.*?('.*')$")
CATALOG = "e"  # type letter of El Torito's boot catalog in xorriso


@dataclass(frozen=True)
class Layout:
    """An ISO of `size` bytes.

    files: path without a leading / -> (start, size) of its pieces in bytes.
    others: path -> type letter of `ls -l`, for all that is no file, folder or boot catalog.
    """

    size: int
    files: dict[str, tuple[tuple[int, int], ...]]
    others: dict[str, str]

    def extent(self, path: str) -> tuple[int, int]:
        """Return (first byte, end) of a file's pieces in the ISO."""
        pieces = self.files[path]
        return pieces[0][0], pieces[-1][0] + pieces[-1][1]


def read(iso: Path) -> Layout:
    """Return the layout of `iso`.

    Raises `UserError` if the file is no ISO, if its tree cannot be read, or if a file lies
    beyond its end.
    """
    argv = ["xorriso", "-no_rc", "-abort_on", "FAILURE", "-indev", f"stdio:{iso.absolute()}"]
    argv += ["-find", "/", "-exec", "lsdl", "--"]
    argv += ["-find", "/", "-type", "f", "-exec", "report_sections", "--"]
    hint = "the file is no ISO, or it is cut short; copy or build it again"
    size = size_of(iso)
    if size < SYSTEM_AREA + BLOCK:  # xorriso accepts an empty file as a blank medium
        raise UserError(f"{iso.name}: {size:,} bytes are too few for an ISO", hint)
    listing = run(argv, hint=hint).stdout
    kinds: dict[str, str] = {}
    pieces: dict[str, list[tuple[int, int]]] = {}
    for line in listing.splitlines():
        if found := SECTION.match(line):
            pieces.setdefault(_path(iso, found[5]), []).append((int(found[2]) * BLOCK, int(found[4])))
        elif found := ENTRY.match(line):
            kinds[_path(iso, found[2])] = found[1]
        elif line and not line.startswith("Report layout:"):
            raise _unreadable(iso, line)
    for path, places in pieces.items():
        if any(start + length > size for start, length in places):
            raise UserError(f"{iso.name}: {path} lies beyond the end of the ISO", hint)
    files = {
        path: tuple(pieces[path]) for path, kind in sorted(kinds.items()) if kind == "-" and path in pieces
    }
    known = {*files, *(path for path, kind in kinds.items() if kind in ("d", CATALOG))}
    return Layout(size, files, {path: kind for path, kind in sorted(kinds.items()) if path not in known})


def size_of(path: Path) -> int:
    """Return the bytes of a file or a device."""
    with path.open("rb") as stream:
        return stream.seek(0, os.SEEK_END)


def _path(iso: Path, quoted: str) -> str:
    try:
        words = shlex.split(quoted)
    except ValueError:
        raise _unreadable(iso, quoted) from None
    return words[0].removeprefix("/")  # after a symlink follows `-> TARGET`


def _unreadable(iso: Path, line: str) -> UserError:
    return UserError(
        f"{iso.name}: its directory cannot be read at {line[:80]!r}", "the ISO was not made by tcbuild"
    )


def content(iso: IO[bytes], pieces: tuple[tuple[int, int], ...]) -> Iterator[bytes]:
    """Yield the content of a file of an open ISO in blocks."""
    for start, size in pieces:
        iso.seek(start)
        while size > 0:
            block = iso.read(min(size, CHUNK))
            if not block:
                raise UserError("the ISO became shorter while it was read")
            size -= len(block)
            yield block


def digest(iso: IO[bytes], pieces: tuple[tuple[int, int], ...]) -> str:
    """Return the sha256 of a file of an open ISO."""
    found = hashlib.sha256()
    for block in content(iso, pieces):
        found.update(block)
    return found.hexdigest()


def files(iso: Path, layout: Layout) -> tuple[File, ...]:
    """Return every file of the ISO with its size and sha256, sorted by path."""
    with iso.open("rb") as stream:
        return tuple(
            File(path, sum(length for _, length in pieces), digest(stream, pieces))
            for path, pieces in layout.files.items()
        )


def areas_outside_files(iso: Path, layout: Layout) -> tuple[File, ...]:
    """Return the areas of the ISO that belong to no file: name, bytes, sha256.

    These are `AREAS`: the area before the descriptors of ECMA-119, from there to the first
    file, and all bytes between and after the files.
    """
    used = sorted(piece for pieces in layout.files.values() for piece in pieces if piece[1])
    first = min([start for start, _ in used], default=layout.size)
    bounds = [(0, SYSTEM_AREA), (SYSTEM_AREA, max(first, SYSTEM_AREA))]
    after, end = [], first
    for start, length in used:
        if start > end:
            after.append((end, start - end))
        end = max(end, start + length)
    after.append((end, layout.size - end))
    areas = [*(((start, end - start),) for start, end in bounds), tuple(after)]
    with iso.open("rb") as stream:
        return tuple(
            File(name, sum(length for _, length in pieces), digest(stream, pieces))
            for name, pieces in zip(AREAS, areas, strict=True)
        )


@dataclass(frozen=True)
class File:
    """A file or area: path or name, bytes, sha256."""

    path: str
    size: int
    sha256: str
