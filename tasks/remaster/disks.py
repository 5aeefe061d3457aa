# SPDX-License-Identifier: MIT
"""Disks and images of disks: their partitions, and the file systems in these.

sfdisk(8) reads MBR and GPT, debugfs(8) reads ext2 to ext4, mtools(1) reads FAT, qemu-img(1) unpacks
qcow2.  They read the file or the device itself, at the offset of a partition: nothing is mounted,
and nothing needs root but the right to read a device.
"""

from __future__ import annotations

import json
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tasks.formats import iso_layout, magic, unpack_limits
from tasks.remaster.medium import MAX_DEPTH, MAX_ENTRIES, Medium, Volume, of_folder, of_iso, too_many
from tasks.util.errors import UserError
from tasks.util.process import require_tool, run

EXT_SUPERBLOCK = 1024  # offset; the kernel's Documentation/filesystems/ext4/super.rst has the fields
NEEDS_RECOVERY = 0x4
# magic, version, backing_file_offset, crypt_method, incompatible_features (QEMU, docs/interop/qcow2.rst)
QCOW2 = struct.Struct(">4sIQ16xI36xQ")
QCOW2_DATA_FILE = 1 << 2
LUKS = b"LUKS\xba\xbe"
# What may stand in a path that mtools gets: it takes * ? [ ] for patterns and a backslash for a slash.
FAT_PATH = re.compile(r"[^\x00-\x1f\x7f*?\[\]\\\"|<>:]+")
HINT = "import an ISO, a disk or its image (raw, qcow2), or a folder"


def open_medium(path: Path, scratch: Path) -> Medium:
    """Return the medium at `path`; scratch: a folder for what must be unpacked first.

    Raises `UserError` if it is nothing that can be imported.
    """
    path = path.absolute()
    if not path.exists():
        raise UserError(f"{path} does not exist", HINT)
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return of_folder(path.resolve())
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise UserError(f"{path} is no file, folder or disk", HINT)
    with path.open("rb") as stream:
        head = stream.read(magic.HEAD_BYTES)
    kind = magic.classify(head)
    name = kind.kind if kind else ""
    if name == "iso":
        return of_iso(path)
    if name == "qcow2":
        made = of_disk(_raw(path, scratch / "disk.raw"))
        made.path = path
        return made
    if name in ("disk", "ext", "bootsector") or _file_system(head) != "unknown":
        return of_disk(path)
    what = kind.description if kind else "a file of no known kind"
    raise UserError(f"{path} is {what}, not a medium with Tiny Core", HINT)


def _raw(image: Path, target: Path) -> Path:
    """Unpack a qcow2 image.  Raises `UserError` if it refers to other files or unpacks to too much."""
    with image.open("rb") as stream:
        head = stream.read(QCOW2.size)
    _, version, backing, crypt, features = QCOW2.unpack(head.ljust(QCOW2.size, b"\0"))
    # Such a name may be that of any file of this machine, so qemu-img must not see it.
    if backing or (version > 2 and features & QCOW2_DATA_FILE):
        hint = "flatten it where it was made: qemu-img convert -O qcow2 OLD NEW"
        raise UserError(f"{image} refers to another file", hint)
    if crypt:
        raise UserError(f"{image} is encrypted", "import the disk where it can be read")
    limit = unpack_limits.max_unpacked_bytes(image.stat().st_size)
    extents = json.loads(run(["qemu-img", "map", "--output=json", "-f", "qcow2", image]).stdout)
    size = sum(extent["length"] for extent in extents if extent.get("data"))
    if size > limit:
        message = f"{image} unpacks to {size:,} bytes, more than the {limit:,} that it may"
        raise UserError(message, "do not trust this file")
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, target], hint="the image is damaged")
    return target


def of_disk(image: Path) -> Medium:
    """Return a disk, a partition or the image of one as a medium.

    Raises `UserError` if nothing in it can be read.
    """
    if "?" in str(image) or "@@" in str(image):
        raise UserError(f"{image}: debugfs and mtools take no path with ? or @@", "rename it, or its folder")
    size = iso_layout.size_of(image)
    medium = Medium(image, size, [])
    with image.open("rb") as stream:
        whole = _file_system(stream.read(magic.HEAD_BYTES))
    # The boot sector of FAT looks like a table of partitions.
    places = [] if whole in READERS else _partitions(image, size, medium.unread)
    for number, start, length in places or [(0, 0, size)]:
        with image.open("rb") as stream:
            stream.seek(start)
            kind = _file_system(stream.read(magic.HEAD_BYTES))
            stream.seek(start + EXT_SUPERBLOCK + 0x60)
            is_dirty = kind == "ext" and bool(int.from_bytes(stream.read(4), "little") & NEEDS_RECOVERY)
        name = f"partition {number}" if number else ""
        if kind not in READERS:
            medium.unread.append(f"{name or image.name}: {UNREAD.get(kind, 'no file system that is known')}")
            continue
        if is_dirty:
            medium.unread.append(f"{name or image.name}: was not unmounted; its last changes may be missing")
        volume = READERS[kind](name, image=image, start=start, length=length)
        volume.scan()
        where = name or image.name
        medium.unread += [f"{where}: the folder {path[:200]!r} cannot be read" for path in volume.lost]
        medium.volumes.append(volume)
    if not medium.volumes:
        raise UserError(f"{image} has no file system to read", HINT, "\n".join(medium.unread))
    return medium


def _partitions(image: Path, size: int, unread: list[str]) -> list[tuple[int, int, int]]:
    """Return (number, offset, bytes) of each partition; lines about odd ones go to `unread`."""
    try:
        table: dict[str, Any] = json.loads(run(["sfdisk", "--json", image]).stdout)["partitiontable"]
    except UserError:
        return []
    sector = table.get("sectorsize", 512)
    found = []
    for one in table.get("partitions", []):
        number = int(re.sub(r".*\D", "", one["node"]) or 0)
        start, length = one["start"] * sector, one["size"] * sector
        if one.get("type") in ("5", "f", "85"):  # holds the logical ones, which follow
            continue
        if length <= 0 or start + length > size:
            unread.append(f"partition {number}: lies beyond the end of the disk")
            continue
        found.append((number, start, length))
    return found


def _file_system(head: bytes) -> str:
    """Return the kind of a file system by its first bytes: a key of READERS or UNREAD."""
    if head.startswith(LUKS):
        return "luks"
    if head[3:11] == b"NTFS    ":
        return "ntfs"
    if head[0x1FE:0x200] == b"\x55\xaa" and (head[54:57] == b"FAT" or head[82:85] == b"FAT"):
        return "fat"
    kind = magic.classify(head)
    return "ext" if kind is not None and kind.kind == "ext" else "unknown"


UNREAD = {"luks": "is encrypted (LUKS), and is not read", "ntfs": "has NTFS, which is not read"}


@dataclass
class PartitionVolume(Volume):
    """A file system at an offset of an image or a device.

    start, length: in bytes; lost: folders that cannot be listed.
    """

    image: Path = Path()
    start: int = 0
    length: int = 0
    lost: list[str] = field(default_factory=list)

    def scan(self) -> None:
        """List the files.  Raises `UserError` if there are too many, or if the file system is damaged."""
        raise NotImplementedError

    def limited(self, limit: int, *argv: str | Path) -> list[str | Path]:
        """Return a command that can write no file of more than `limit` bytes."""
        return ["prlimit", f"--fsize={max(limit, 0)}", require_tool(str(argv[0])), *argv[1:]]


@dataclass
class ExtVolume(PartitionVolume):
    """ext2, ext3 or ext4, read by debugfs.  inodes: path -> number."""

    inodes: dict[str, int] = field(default_factory=dict)
    LINE: ClassVar[re.Pattern[str]] = re.compile(r"/(\d+)/(\d{6})/\d+/\d+/([^/]+)/(\d*)/")
    ASKED: ClassVar[re.Pattern[str]] = re.compile(r"debugfs: ls -p <(\d+)>")

    @property
    def address(self) -> str:
        # libext2fs takes what follows a `?` for options.
        return f"{self.image}?offset={self.start}"

    def scan(self) -> None:
        level = {2: ""}  # the root folder's inode
        seen = {2}
        count = 0
        for _ in range(MAX_DEPTH + 1):
            commands = "".join(f"ls -p <{inode}>\n" for inode in level)
            listed = run(["debugfs", "-f", "/dev/stdin", self.address], stdin=commands.encode()).stdout
            below: dict[int, str] = {}
            folder: str | None = None
            listed_inodes: set[int] = set()
            for line in listed.splitlines():
                if asked := self.ASKED.fullmatch(line):
                    folder = level.get(int(asked[1]))
                elif folder is not None and (entry := self.LINE.fullmatch(line)):
                    count += 1
                    if entry[3] == ".":
                        listed_inodes.add(int(entry[1]))
                    self._add(folder, entry, below, seen)
            self.lost += [path for inode, path in level.items() if inode not in listed_inodes]
            if count > MAX_ENTRIES:
                raise too_many(self.name or self.image.name)
            level = below
            if not level:
                return

    def _add(self, folder: str, entry: re.Match[str], below: dict[int, str], seen: set[int]) -> None:
        inode, mode, name = int(entry[1]), int(entry[2], 8), entry[3]
        if name in (".", "..") or inode == 0:
            return
        path = f"{folder}/{name}" if folder else name
        if stat.S_ISREG(mode):
            self.files[path] = int(entry[4] or 0)
            self.inodes[path] = inode
        elif not stat.S_ISDIR(mode):
            self.others.append(path)
        elif inode not in seen:  # a damaged file system may have circles
            seen.add(inode)
            below[inode] = path

    def copy(self, path: str, target: Path, limit: int) -> None:
        if self.files[path] > limit:
            raise UserError(f"{path!r} has {self.files[path]:,} bytes, more than {limit:,}")
        target.unlink(missing_ok=True)
        # The path holds no quote: it is one of our own.
        command = f'dump <{self.inodes[path]}> "{target}"'
        run(self.limited(self.files[path], "debugfs", "-R", command, self.address), hint="it is damaged")
        if not target.is_file() or target.stat().st_size != self.files[path]:
            raise UserError(f"{path!r} cannot be read from {self.name or self.image.name}", "it is damaged")


@dataclass
class FatVolume(PartitionVolume):
    """FAT12, FAT16 or FAT32, read by mtools."""

    ENV: ClassVar[dict[str, str]] = {"MTOOLSRC": "/dev/null", "MTOOLS_SKIP_CHECK": "1"}

    @property
    def address(self) -> str:
        return f"{self.image}@@{self.start}"

    def scan(self) -> None:
        todo = [("", 0)]
        while todo:
            folder, depth = todo.pop()
            # -a: hidden files, too; -b: one path a line, with a slash behind a folder.
            listed = run(["mdir", "-a", "-b", "-i", self.address, f"::/{folder}"], env=self.ENV, check=False)
            for line in listed.stdout.splitlines():
                path = line.removeprefix("::").strip("/")
                if not path.startswith(f"{folder}/" if folder else "") or not FAT_PATH.fullmatch(path):
                    self.others.append(path)
                elif not line.endswith("/"):
                    self.files[path] = -1
                elif depth < MAX_DEPTH and path.rpartition("/")[2] not in (".", ".."):
                    todo.append((path, depth + 1))
            if len(self.files) + len(self.others) + len(todo) > MAX_ENTRIES:
                raise too_many(self.name or self.image.name)

    def copy(self, path: str, target: Path, limit: int) -> None:
        target.unlink(missing_ok=True)
        limit = min(limit, self.length)
        copy = self.limited(limit, "mcopy", "-n", "-i", self.address, f"::/{path}", target)
        run(copy, env=self.ENV, hint=f"{path!r} is damaged or too large")
        if not target.is_file():
            raise UserError(f"{path!r} cannot be read from {self.name or self.image.name}", "it is damaged")


READERS: dict[str, type[PartitionVolume]] = {"ext": ExtVolume, "fat": FatVolume}
