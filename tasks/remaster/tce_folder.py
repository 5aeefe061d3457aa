# SPDX-License-Identifier: MIT
"""A folder `tce` or `cde`: its extensions, and the lists that say which are loaded at boot, and how.

Tiny Core's tce-setup reads the first word of each line of onboot.lst, and `#` begins a comment.
tce-load copies an extension instead of mounting it if copy2fs.flg exists or copy2fs.lst names it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tasks.formats import tcz
from tasks.remaster.medium import Volume
from tasks.util.errors import UserError

Place = Literal["onboot", "ondemand", "copy2fs"]
ONBOOT, COPIED, ALL_COPIED = "onboot.lst", "copy2fs.lst", "copy2fs.flg"
FOLDERS = ("optional", "ondemand")
# What a build writes itself, or what only the running system uses.
EXPECTED = re.compile(r"onboot\.lst|copy2fs\.(lst|flg)|mydata\.tgz|xwbar\.lst|firstrun|onbootname|\..*")
OF_BOOT = "boot"  # where tc-install puts kernel and core
BACKUP = "mydata.tgz"
ENCRYPTED = re.compile(r".*\.tgz\.bfe")
MAX_EXTENSIONS = 5_000
SHOWN = 60


@dataclass
class TceFolder:
    """A folder of extensions of a medium.

    volume, path: where it is; extensions: name -> path of its .tcz; onboot, copied: names in order;
    backup: the path of its mydata.tgz; unread: lines about what cannot be taken over.
    """

    volume: Volume
    path: str
    extensions: dict[str, str] = field(default_factory=dict)
    backup: str = ""
    unread: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        where = f"{self.volume.name}: " if self.volume.name else ""
        return f"{where}{self.path or '.'}"

    def file(self, name: str) -> str | None:
        """Return the path of a file in this folder, None if it has none."""
        return self.volume.find(f"{self.path}/{name}")


def find_folders(volumes: Iterable[Volume]) -> list[TceFolder]:
    """Return the folders of extensions on a medium, by their paths."""
    found = []
    for volume in volumes:
        tops = set()
        for path in volume.files:
            folder, _, name = path.rpartition("/")
            if name.lower() == ONBOOT:
                tops.add(folder)
            elif name.endswith(".tcz") and folder.rpartition("/")[2].lower() == "optional":
                tops.add(folder.rpartition("/")[0])
        found += [TceFolder(volume, top) for top in sorted(tops)]
    return found


def choose(folders: Sequence[TceFolder], codes: Sequence[str]) -> TceFolder | None:
    """Return the folder that the bootcodes `cde` or `tce=DEVICE/PATH` load from, else the likeliest."""
    wanted = [code.removeprefix("tce=").partition("/")[2] for code in codes if code.startswith("tce=")]
    order = [*filter(None, wanted), *(("cde", "tce") if "cde" in codes else ("tce", "cde"))]
    for name in order:
        for folder in folders:
            if folder.path.lower() == name.strip("/").lower():
                return folder
    return folders[0] if folders else None


def scan(folder: TceFolder, onboot: str = ONBOOT) -> None:
    """Find the extensions and the backup in a folder.  Raises `UserError` if there are too many.

    onboot: the name of its list of what is loaded at boot.
    """
    below = f"{folder.path}/" if folder.path else ""
    others: Counter[str] = Counter()
    for path in sorted(folder.volume.files):
        if not path.startswith(below):
            continue
        parts = path.removeprefix(below).split("/")
        if parts[-1].endswith(".tcz") and parts[0].lower() in FOLDERS:
            _add(folder, parts, path)
        elif len(parts) == 1:
            if parts[0].lower() != onboot.lower():
                _other(folder, parts[0], path)
        elif parts[0].lower() not in ("optional", OF_BOOT):
            others[parts[0]] += 1
    for name, count in others.items():
        folder.unread.append(f"the folder {name[:SHOWN]!r} with {count} files")
    lost = [path for path in folder.volume.others if path.startswith(below) and path.endswith(".tcz")]
    folder.unread += [f"{path[:SHOWN]!r} is a link or no file" for path in lost]
    if len(folder.extensions) > MAX_EXTENSIONS:
        raise UserError(f"{folder.name} has more than {MAX_EXTENSIONS:,} extensions")


def _add(folder: TceFolder, parts: Sequence[str], path: str) -> None:
    name = parts[-1].removesuffix(".tcz")
    if len(parts) > 2:
        if parts[1].lower() == "upgrade":
            folder.unread.append(f"{path[:SHOWN]!r} would replace {name[:SHOWN]} at the next boot")
        return
    if not tcz.EXTENSION_NAME.fullmatch(name) or name.endswith(".tcz"):
        folder.unread.append(f"{path[:SHOWN]!r} has a name that no extension may have")
    else:
        folder.extensions.setdefault(name, path)


def _other(folder: TceFolder, name: str, path: str) -> None:
    if name.lower() == BACKUP:
        folder.backup = path
    elif ENCRYPTED.fullmatch(name):
        folder.unread.append(f"{name[:SHOWN]!r}: the backup is encrypted (bootcode protect)")
    elif name.endswith(".gz"):
        folder.unread.append(f"{name[:SHOWN]!r} is unpacked at boot: add it to core.archives if it is needed")
    elif not EXPECTED.fullmatch(name.lower()):
        folder.unread.append(f"{name[:SHOWN]!r} is in the folder of extensions")


def parse_list(text: str, what: str) -> tuple[list[str], list[str]]:
    """Return the names in a list of extensions, each once, without .tcz, and lines about odd ones.

    what: the list's name in these lines.
    """
    names: dict[str, None] = {}
    odd = []
    for line in text.splitlines():
        first, *more = line.partition("#")[0].split() or [""]
        name = first.removesuffix(".tcz")
        if not name:
            continue
        if not tcz.EXTENSION_NAME.fullmatch(name) or name.endswith(".tcz"):
            odd.append(f"{what}: {line.strip()[:SHOWN]!r} names no extension")
            continue
        if more:
            odd.append(f"{what}: Tiny Core ignores what follows {name[:SHOWN]}: {' '.join(more)[:SHOWN]!r}")
        names[name] = None
    return list(names), odd


def places(
    extensions: Iterable[str],
    onboot: Sequence[str],
    copied: Sequence[str],
    deps: Mapping[str, Sequence[str]],
    *,
    all_copied: bool,
) -> tuple[dict[str, Place], list[str]]:
    """Return the place of each extension, those of onboot.lst first and in its order, and lines to say.

    deps: what each extension needs; all_copied: whether copy2fs.flg exists.
    """
    there = set(extensions)
    lines = [f"{ONBOOT}: {name[:SHOWN]} is not on the medium" for name in onboot if name not in there]
    at_boot = [name for name in onboot if name in there]
    loaded = set(_closure(at_boot, deps, there))
    copies = set(loaded) if all_copied else there & set(copied)
    if all_copied and any(name not in loaded for name in there):
        lines.append(f"{ALL_COPIED}: what is loaded on demand will be mounted, not copied")
    lines += [
        f"{COPIED}: {name} is loaded on demand, and will be mounted, not copied"
        for name in sorted(copies - loaded)
    ]
    copies &= loaded
    # A dependency that is copied is loaded at boot already; the list of a build names it.
    first = [*at_boot, *sorted(copies - set(at_boot))]
    found: dict[str, Place] = {name: "copy2fs" if name in copies else "onboot" for name in first}
    return found | {name: "ondemand" for name in sorted(there) if name not in found}, lines


def _closure(names: Iterable[str], deps: Mapping[str, Sequence[str]], there: set[str]) -> list[str]:
    found: dict[str, None] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in there and name not in found:
            found[name] = None
            todo += deps.get(name, ())
    return list(found)
