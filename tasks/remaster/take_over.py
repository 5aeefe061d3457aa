# SPDX-License-Identifier: MIT
"""The system on a medium: its kernel, core, menu, extensions and backup, copied into the cache by sha256."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.config import architecture, plan
from tasks.config.architecture import FileNames
from tasks.formats import bzimage, initramfs_file, magic, squashfs_superblock
from tasks.formats.cpio import Member
from tasks.origins.lock import LockedExtension, LockedFile, cached_path
from tasks.remaster import boot_menus, core_difference, tce_folder
from tasks.remaster.boot_menus import Entry, Menu
from tasks.remaster.medium import Budget, Medium, Volume
from tasks.remaster.tce_folder import TceFolder
from tasks.util.errors import UserError
from tasks.util.files import sha256_file

KERNELS = re.compile(r"(?:.*/)?(vmlinuz64|vmlinuz|bzimage64|bzimage)", re.IGNORECASE)
CORES = re.compile(r"(?:.*/)?(corepure64|core|microcore64|microcore|tinycore64|tinycore)\.gz", re.IGNORECASE)
MAX_MENUS = 50
DEVICES = re.compile(
    r"(home|opt|local|restore|mydata|swapfile|tcvd|waitusb|pretce)=.*((s|h|v)d[a-z]|mmc|nvme|UUID|LABEL)"
)


@dataclass
class Found:
    """What a medium has, copied into the cache.

    files: entries of the lock; kernel, archives, backup: `kind = "imported"` sources as tables;
    release, arch: of the kernel; root: what the kernel unpacks; lines: what was taken over; unread: what
    was not.
    """

    files: list[LockedFile] = field(default_factory=list)
    kernel: dict[str, Any] = field(default_factory=dict)
    archives: list[dict[str, Any]] = field(default_factory=list)
    backup: dict[str, Any] = field(default_factory=dict)
    release: str = ""
    arch: str = architecture.DEFAULT
    root: dict[str, Member] = field(default_factory=dict)
    extensions: list[LockedExtension] = field(default_factory=list)
    places: dict[str, tce_folder.Place] = field(default_factory=dict)
    codes: list[str] = field(default_factory=list)
    timeout: int | None = None
    volume_id: str = ""
    lines: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    size: int = 0


class _Taking:
    """One import: copies of files from the medium to the cache."""

    def __init__(self, medium: Medium, cache: Path, scratch: Path) -> None:
        self.medium = medium
        self.cache = cache
        self.scratch = scratch
        self.budget = Budget(medium)
        self.found = Found(unread=list(medium.unread))

    def copy(self, volume: Volume, path: str) -> Path:
        """Return a copy of a file of the medium."""
        target = self.scratch / "file"
        self.budget.copy(volume, path, target)
        return target

    def text(self, volume: Volume, path: str | None) -> str:
        return self.budget.text(volume, path, self.scratch) if path else ""

    def store(self, copy: Path, name: str) -> tuple[str, Path]:
        """Move a copy into the cache under a name of ours; return its sha256 and path."""
        sha256 = sha256_file(copy)
        final = cached_path(self.cache, sha256, name)
        final.parent.mkdir(parents=True, exist_ok=True)
        copy.chmod(0o644)
        os.replace(copy, final)
        self.found.size += final.stat().st_size
        return sha256, final

    def source(self, copy: Path, name: str) -> tuple[dict[str, Any], Path]:
        """Store a copy; return the source of kind `imported` for it, as a table, and its path."""
        sha256, final = self.store(copy, name)
        self.found.files.append(LockedFile(name, sha256))
        return {"kind": "imported", "name": name, "sha256": sha256}, final

    def say(self, what: str, volume: Volume, path: str, final: Path, more: str = "") -> None:
        where = f"{volume.name}: {path}" if volume.name else path
        self.found.lines.append(f"{what}: {where}{more}, {final.stat().st_size:,} bytes")

    # --- the boot menu, the kernel, the core ---

    def find_menu(self) -> tuple[Volume | None, str, Menu]:
        """Return the volume and the path of the boot menu, and the menu; an empty one if there is none."""
        parsers = {
            **dict.fromkeys(boot_menus.SYSLINUX_FILES, boot_menus.parse_syslinux),
            **dict.fromkeys(boot_menus.GRUB_FILES, boot_menus.parse_grub),
        }
        order = list(parsers)
        there = [
            (order.index(name), path.count("/"), path, volume)
            for volume in self.medium.volumes
            for path in volume.files
            if (name := path.rpartition("/")[2].lower()) in parsers
        ]
        taken: tuple[Volume, str, Menu] | None = None
        for number, _, path, volume in sorted(there, key=lambda one: one[:3])[:MAX_MENUS]:
            menu = parsers[order[number]](self.text(volume, path))
            entry = menu.default_entry()
            if entry and taken is None:
                taken = (volume, path, menu)
            elif entry and taken and _boots(entry) != _boots(taken[2].default_entry()):
                self.found.unread.append(f"the boot menu {path!r}, which boots otherwise than {taken[1]!r}")
        return taken or (None, "", Menu())

    def take_kernel(self, volume: Volume | None, menu_path: str, entry: Entry | None) -> None:
        """Take kernel and core, those of the menu's entry or those with the usual names.

        Raises `UserError` if only one of them is there, or if one is damaged.
        """
        folder = menu_path.rpartition("/")[0]
        kernel = self._named(volume, folder, entry.kernel) if entry else None
        cores = [self._named(volume, folder, path) for path in entry.initrds] if entry else []
        kernel = kernel or self._usual(KERNELS)
        if not cores or None in cores:
            cores = [self._usual(CORES)]
        if kernel is None and cores == [None]:
            return
        if kernel is None or cores == [None]:
            what = "a core, but no kernel" if kernel is None else "a kernel, but no core"
            hint = "import its folder tce alone; kernel and core are then those of another profile"
            raise UserError(f"{self.medium.path} has {what}", hint)
        self._take_kernel(*kernel)
        self._take_cores([core for core in cores if core])

    @property
    def _standard(self) -> FileNames:
        """The names of our own for the kernel and the core."""
        return architecture.load(self.found.arch).files

    def _named(self, volume: Volume | None, folder: str, path: str) -> tuple[Volume, str] | None:
        """Return where the file is that a menu names; relative paths begin at the menu's folder."""
        volumes = [*([volume] if volume else []), *self.medium.volumes]
        for one in volumes:
            for candidate in (path, f"{folder}/{path}") if not path.startswith("/") else (path,):
                if found := one.find(candidate):
                    return one, found
        self.found.unread.append(f"the boot menu names {path[:60]!r}, which the medium does not have")
        return None

    def _usual(self, names: re.Pattern[str]) -> tuple[Volume, str] | None:
        found = [(path.count("/"), path, one) for one in self.medium.volumes for path in one.files]
        found = [one for one in found if names.fullmatch(one[1])]
        if not found:
            return None
        found.sort(key=lambda one: one[:2])
        _, path, volume = found[0]
        self.found.unread += [
            f"{other!r}: without a boot menu, {path!r} is taken (import a copy with the one that you want)"
            for _, other, _ in found[1:]
        ]
        return volume, path

    def _take_kernel(self, volume: Volume, path: str) -> None:
        copy = self.copy(volume, path)
        with copy.open("rb") as stream:
            head = stream.read(magic.HEAD_BYTES)
        try:
            header = bzimage.read_header(head)
            version = bzimage.version_string(head, header)
        except UserError as error:
            raise UserError(f"{path!r} of {self.medium.path} is no kernel: {error.message}") from None
        bits = 64 if header.xloadflags & bzimage.XLF_KERNEL_64 else 32
        self.found.arch = next(
            name
            for name in architecture.names()
            if (one := architecture.load(name)).source == "x86" and one.bits == bits
        )
        release = version.split(" ")[0]
        self.found.release = release if bzimage.RELEASE.fullmatch(release) else ""
        source, final = self.source(copy, self._standard.kernel)
        self.found.kernel = source
        self.say("kernel", volume, path, final, f", {self.found.release or 'of an unknown release'}")

    def _take_cores(self, cores: Sequence[tuple[Volume, str]]) -> None:
        paths = []
        for number, (volume, path) in enumerate(cores, start=1):
            copy = self.copy(volume, path)
            try:
                initramfs_file.streams(copy)
            except UserError as error:
                message = error.message.replace(str(copy), repr(path))
                raise error.reworded(message) from None
            name = self._standard.core if number == 1 else f"{number}-{self._standard.core}"
            source, final = self.source(copy, name)
            self.found.archives.append(source)
            self.say("core", volume, path, final)
            paths.append(final)
        self.found.root = core_difference.members(paths)

    # --- bootcodes ---

    def take_menu(self, menu_path: str, menu: Menu, entry: Entry | None) -> None:
        """Take the bootcodes and the timeout; what a profile cannot have is unread."""
        found = self.found
        found.unread += menu.unread
        found.timeout = menu.timeout
        if entry is None:
            return
        for other in menu.entries:
            if other.name != entry.name or other.title != entry.title:
                shown = (other.title or other.name)[:60]
                found.unread.append(f"menu entry {shown!r}: {' '.join(other.codes)[:120]}")
        codes, bad = boot_menus.usable([code for code in entry.codes if code != "loglevel=3"])
        found.unread += [f"the bootcode {code[:60]!r}: no menu of tcbuild can carry it" for code in bad]
        for code in codes:
            if code.startswith(("tce=", "iso=", "fromISOfile=")):
                found.unread.append(f"the bootcode {code[:80]}: it names the place of what is imported")
            elif not code.startswith("lst="):
                found.codes.append(code)
        for code in filter(DEVICES.match, found.codes):
            found.unread.append(
                f"what is at {code[:80]}: the bootcode names a disk of that machine, and stays"
            )
        shown = "no timeout" if menu.timeout is None else f"{menu.timeout} s"
        title = (entry.name or entry.title)[:60]
        found.lines.append(f"boot menu: {menu_path}, entry {title!r}, {shown}")

    # --- extensions ---

    def take_extensions(self, codes: Sequence[str]) -> None:
        """Take the extensions of the folder that the bootcodes load from, their lists and the backup."""
        folders = tce_folder.find_folders(self.medium.volumes)
        folder = tce_folder.choose(folders, codes)
        if folder is None:
            return
        self.found.unread += [f"the extensions in {one.name!r}" for one in folders if one is not folder]
        wanted = next(
            (code.removeprefix("lst=") for code in codes if code.startswith("lst=")), tce_folder.ONBOOT
        )
        tce_folder.scan(folder, wanted)
        deps: dict[str, list[str]] = {}
        for name, path in folder.extensions.items():
            if made := self._take_extension(folder, name, path):
                self.found.extensions.append(made)
                deps[name] = list(made.deps)
        onboot = self._list(folder, wanted)
        copied = self._list(folder, tce_folder.COPIED)
        flag = folder.file(tce_folder.ALL_COPIED) is not None
        self.found.places, lines = tce_folder.places(deps, onboot, copied, deps, all_copied=flag)
        self.found.unread += [*folder.unread, *lines]
        count = [
            f"{list(self.found.places.values()).count(place)} {place}"
            for place in ("onboot", "copy2fs", "ondemand")
        ]
        self.found.lines.append(f"extensions: {len(deps)} of {folder.name!r} ({', '.join(count)})")
        if folder.backup:
            self.found.backup, final = self.source(self.copy(folder.volume, folder.backup), tce_folder.BACKUP)
            self.say("backup", folder.volume, folder.backup, final, " (it may hold passwords and keys)")

    def _list(self, folder: TceFolder, name: str) -> list[str]:
        path = folder.file(name)
        if path is None and name != tce_folder.COPIED:
            self.found.unread.append(
                f"{name[:60]!r}: the medium has no such list, so nothing is loaded at boot"
            )
        names, odd = tce_folder.parse_list(self.text(folder.volume, path), name[:60])
        self.found.unread += odd
        return names

    def _take_extension(self, folder: TceFolder, name: str, path: str) -> LockedExtension | None:
        copy = self.copy(folder.volume, path)
        try:
            squashfs_superblock.compressor(copy)
        except UserError:
            self.found.unread.append(f"{path!r} is no squashfs file")
            return None
        with copy.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        beside = self.text(folder.volume, folder.volume.find(f"{path}.md5.txt")).split()
        if beside and beside[0].lower() != digest:
            self.found.unread.append(f"the .md5.txt of {name}: it names another file than its .tcz")
        needed, odd = tce_folder.parse_list(
            self.text(folder.volume, folder.volume.find(f"{path}.dep")), f"{name}.tcz.dep"
        )
        self.found.unread += odd
        lost = [dep for dep in needed if self._resolved(dep) not in folder.extensions]
        if lost:
            self.found.unread.append(f"what {name} needs and the medium lacks: {', '.join(lost)[:200]}")
        # `NAME-KERNEL` would stand for modules of a kernel that is built here.
        deps = tuple(self._resolved(dep) for dep in needed if dep not in lost)
        sha256, final = self.store(copy, f"{name}.tcz")
        return LockedExtension(name, sha256, digest, final.stat().st_size, deps)

    def _resolved(self, name: str) -> str:
        is_open = name.endswith(plan.KERNEL) and self.found.release
        return f"{name.removesuffix(plan.KERNEL)}-{self.found.release}" if is_open else name


def _boots(entry: Entry | None) -> tuple[object, ...]:
    """Return what an entry boots."""
    return (entry.kernel, entry.initrds, entry.codes) if entry else ()


def take(medium: Medium, cache: Path, scratch: Path) -> Found:
    """Copy what a medium has into the cache, and return what it is.

    Raises `UserError` if there is no system on it, or if a part is damaged or far too large.
    """
    taking = _Taking(medium, cache, scratch)
    volume, menu_path, menu = taking.find_menu()
    entry = menu.default_entry()
    taking.take_kernel(volume, menu_path, entry)
    taking.take_menu(menu_path, menu, entry)
    taking.take_extensions(entry.codes if entry else ())
    found = taking.found
    if not found.kernel and not found.extensions:
        message = f"{medium.path} has no Tiny Core on it: no kernel, no core, no extensions"
        raise UserError(message, "", "\n".join(medium.unread))
    if found.places and "cde" not in found.codes:
        found.codes.insert(0, "cde")  # an ISO has them there; ./doit disk leaves the word out
    found.volume_id = medium.volume_id
    return found
