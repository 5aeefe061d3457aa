# SPDX-License-Identifier: MIT
"""A medium with Tiny Core on it: its file systems, their files, and how these are copied.

Everything on a medium is others' words.  A path of a medium is only a key to look a file up by; it
never becomes a path of this machine.  Links, devices and sockets are not followed or opened, and
nothing is run.  `Budget` limits what is copied.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.formats import iso_layout, unpack_limits
from tasks.formats.iso_layout import Layout
from tasks.util.errors import UserError
from tasks.util.files import CHUNK

MAX_ENTRIES = 200_000  # files and folders of one medium
MAX_DEPTH = 6  # folders below the top of a file system
MAX_TEXT = unpack_limits.MAX_HEADER_TEXT  # bytes of a list or of a boot loader's configuration
VOLUME_ID = (iso_layout.SYSTEM_AREA + 40, 32)  # offset and bytes in the primary descriptor (ECMA-119, 8.4.7)


@dataclass
class Volume(ABC):
    """One file system of a medium.

    name: for messages, "" if it is the only one; files: path without a leading slash -> bytes, -1 if
    they are not known; others: what is no file and no folder, or what could not be listed.
    """

    name: str
    files: dict[str, int] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @abstractmethod
    def copy(self, path: str, target: Path, limit: int) -> None:
        """Write the file `path` of `files` to `target`, at most `limit` bytes.

        Raises `UserError` if it cannot be read or is larger.
        """

    def find(self, path: str) -> str | None:
        """Return the path of a file as `files` has it; upper and lower case count only if both exist."""
        path = plain_path(path)
        if path in self.files:
            return path
        return next((one for one in self.files if one.lower() == path.lower()), None)


@dataclass
class Medium:
    """What is imported.

    path: as it was given; size: in bytes; volumes: its file systems; volume_id: the label of an ISO;
    unread: lines about what was not read.
    """

    path: Path
    size: int
    volumes: list[Volume]
    volume_id: str = ""
    unread: list[str] = field(default_factory=list)


def plain_path(path: str) -> str:
    """Return a path of a medium without empty parts and `.`; a `..` stays and matches no file."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


class Budget:
    """Copies files of a medium and counts them, so that a small medium cannot fill the disk."""

    def __init__(self, medium: Medium) -> None:
        self.meter = unpack_limits.Meter(medium.size)

    def copy(self, volume: Volume, path: str, target: Path) -> None:
        """Copy a file.  Raises `UserError` if it cannot be read, or if all together become too much."""
        left = self.meter.limit - self.meter.size
        size = volume.files[path]
        if size > left:
            raise self._too_much(path)
        volume.copy(path, target, left)
        try:
            self.meter.add(path, target.stat().st_size)
        except unpack_limits.LimitExceeded:
            raise self._too_much(path) from None

    def text(self, volume: Volume, path: str, scratch: Path) -> str:
        """Return a small text file; bytes that are not UTF-8 are replaced.  Raises `UserError` as `copy`."""
        if volume.files[path] > MAX_TEXT:
            raise UserError(f"{path!r} has {volume.files[path]:,} bytes, which is no list or menu")
        target = scratch / "text"
        volume.copy(path, target, MAX_TEXT)
        return target.read_bytes().decode("utf-8", "replace")

    def _too_much(self, path: str) -> UserError:
        limit = f"{self.meter.limit:,} bytes that a medium of {self.meter.packed:,} may have"
        return UserError(f"with {path!r} it holds more than the {limit}", "do not trust this medium")


# --- folders -------------------------------------------------------------------------------------


@dataclass
class FolderVolume(Volume):
    """A folder of this machine, such as a mounted stick."""

    top: Path = Path()

    def copy(self, path: str, target: Path, limit: int) -> None:
        # A link or a FIFO may have taken the file's place since it was listed.
        handle = os.open(self.top / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb") as source, target.open("wb") as sink:
            if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
                raise UserError(f"{self.top / path} is no regular file")
            while block := source.read(CHUNK):
                limit -= len(block)
                if limit < 0:
                    raise UserError(f"{self.top / path} has become too large while it was read")
                sink.write(block)


def of_folder(top: Path) -> Medium:
    """Return a folder as a medium.  Raises `UserError` if it has too many files."""
    volume = FolderVolume("", top=top)
    size = 0
    lost: list[str] = []
    for path, entry in _walk(top, lost):
        if entry.is_file(follow_symlinks=False):
            volume.files[path] = entry.stat(follow_symlinks=False).st_size
            size += volume.files[path]
        else:
            volume.others.append(path)
    unread = [f"the folder {path[:200]!r} cannot be read" for path in lost]
    return Medium(top, size, [volume], unread=unread)


def _walk(top: Path, lost: list[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield what is below `top` and no folder, by paths, sorted; folders behind links are left out.

    lost: gets the folders that may not be listed, as lost+found of a mounted stick.
    """
    seen = 0
    todo = [("", 0)]
    while todo:
        below, depth = todo.pop()
        try:
            with os.scandir(top / below) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except PermissionError:
            if not below:
                raise
            lost.append(below)
            continue
        seen += len(found)
        if seen > MAX_ENTRIES:
            raise too_many(str(top))
        for entry in found:
            path = f"{below}/{entry.name}" if below else entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield path, entry
            elif depth < MAX_DEPTH:
                todo.append((path, depth + 1))


def too_many(what: str) -> UserError:
    """Return the error for a medium with more files than are looked at."""
    return UserError(
        f"{what} has more than {MAX_ENTRIES:,} files and folders", "name its folder tce, or a copy of it"
    )


# --- ISOs ----------------------------------------------------------------------------------------


@dataclass
class IsoVolume(Volume):
    """An ISO 9660 image, read by offsets."""

    image: Path = Path()
    layout: Layout = field(default_factory=lambda: Layout(0, {}, {}))

    def copy(self, path: str, target: Path, limit: int) -> None:
        if self.files[path] > limit:
            raise UserError(f"{path!r} has {self.files[path]:,} bytes, more than {limit:,}")
        with self.image.open("rb") as stream, target.open("wb") as sink:
            for block in iso_layout.content(stream, self.layout.files[path]):
                sink.write(block)


def of_iso(image: Path) -> Medium:
    """Return an ISO, or a disc or stick with one, as a medium.  Raises `UserError` if it is damaged."""
    layout = iso_layout.read(image)
    if len(layout.files) + len(layout.others) > MAX_ENTRIES:
        raise too_many(image.name)
    sizes = {path: sum(size for _, size in pieces) for path, pieces in layout.files.items()}
    volume = IsoVolume("", sizes, list(layout.others), image=image, layout=layout)
    with image.open("rb") as stream:
        stream.seek(VOLUME_ID[0])
        label = stream.read(VOLUME_ID[1]).decode("ascii", "replace").rstrip(" \0")
    return Medium(image, layout.size, [volume], label)
