# SPDX-License-Identifier: MIT
"""What the files of a build root were when it was made, and which of them differ now.

The record is JSON: a path below the root -> mode, content and stamp.  The content of a file is its sha256,
that of a link its target.  A file whose stamp is the recorded one is not read, as git does it; so a
look at a root costs a stat(2) for each file.  A root that was copied has other stamps and the same content.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import NamedTuple

from tasks.util.files import Stamp, remove_tree, sha256_file, write_atomic

NAME = "files.json"
"""In a root's folder, beside the root: the record."""
# The folders of a root that hold programs and their data.  proot(1) makes empty folders in others.
SYSTEM = ("usr", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32")


class Entry(NamedTuple):
    """A file, link or folder: its mode (stat(2)), its content ("" for a folder), and its stamp."""

    mode: int
    content: str
    stamp: Stamp


Files = dict[str, Entry]
"""Path below the root -> what is there."""


def found(root: Path) -> Files:
    """Return what is in the folder `root`, and read all of it."""
    return {
        path: Entry(status.st_mode, _content(root / path, status), Stamp.of(status))
        for path, status in _statuses(root)[0].items()
    }


def write(folder: Path, files: Files) -> None:
    """Write the record of the root in `folder`."""
    write_atomic(folder / NAME, json.dumps(files, separators=(",", ":")))


def read(folder: Path) -> Files | None:
    """Return the record of the root in `folder`, None if there is none or it is damaged."""
    try:
        rows = json.loads((folder / NAME).read_bytes())
        return {path: Entry(mode, content, Stamp(*times)) for path, (mode, content, times) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def differing(root: Path, recorded: Files, *, read_all: bool = False) -> tuple[list[str], Files]:
    """Return the paths that are not what `recorded` says, sorted, and the record with the present stamps.

    A path that is in a folder of `SYSTEM` and not recorded is one of them.  read_all: whether files
    with the recorded stamp are read, too, which finds damage of the disk.
    """
    (there, hidden), now = _statuses(root), dict(recorded)
    bad = {path for path in recorded.keys() - there.keys() if not path.startswith(hidden)}
    for path, status in there.items():
        known = recorded.get(path)
        if known is None:
            if path.partition("/")[0] in SYSTEM:
                bad.add(path)
        elif known.mode != status.st_mode:
            bad.add(path)
        elif not stat.S_ISDIR(status.st_mode):
            stamp = Stamp.of(status)
            if (read_all or stamp != known.stamp) and _content(root / path, status) != known.content:
                bad.add(path)
            now[path] = known._replace(stamp=stamp)
    return sorted(bad), now


def replace(root: Path, paths: list[str], fresh: Path, wanted: Files) -> None:
    """Put the files of the root `fresh` in the place of `paths` below `root`, one after the other.

    wanted: what `fresh` has; all else is removed.  A program of `root` that runs meanwhile goes on.
    """
    for path in sorted(paths):  # a folder before what is in it
        old, new = root / path, fresh / path
        if path not in wanted:
            remove_tree(old)
        elif _is_folder(old) and _is_folder(new):
            old.chmod(stat.S_IMODE(wanted[path].mode))
        elif os.path.lexists(new):  # else it came along with its folder
            if _is_folder(old) or _is_folder(new):
                remove_tree(old)
            os.replace(new, old)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _statuses(root: Path) -> tuple[dict[str, os.stat_result], tuple[str, ...]]:
    """Return the status of all files, links and folders in `root`, by their paths below it.

    Second are the folders, with a slash, that this user may not look into: of a cache of another user.
    """
    statuses: dict[str, os.stat_result] = {}
    hidden: list[str] = []
    todo = [""]
    while todo:
        folder = todo.pop()
        try:
            entries = list(os.scandir(root / folder))
        except PermissionError:  # as etc/ssl/private
            hidden.append(folder)
            continue
        for entry in entries:
            path = f"{folder}{entry.name}"
            statuses[path] = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                todo.append(f"{path}/")
    return statuses, tuple(hidden)


def _content(path: Path, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    return sha256_file(path) if stat.S_ISREG(status.st_mode) else ""
