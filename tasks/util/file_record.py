# SPDX-License-Identifier: MIT
"""What the files of a folder with programs were when it was unpacked, and which of them differ now.

The record is JSON: a path below the folder -> mode, content and stamp.  The content of a file is its
sha256, that of a link its target.  A file whose stamp is the recorded one is not read, as git does it; so
a look costs a stat(2) for each file.  A copy of the folder has other stamps and the same content.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tasks.util.errors import UserError
from tasks.util.files import Stamp, remove_tree, sha256_file, write_atomic
from tasks.util.text import shortened

ROOT = "root"
NAME = "files.json"
"""Beside the recorded folder, which is `ROOT`: the record."""
SHOWN = 3


class Entry(NamedTuple):
    """A file, link or folder: its mode (stat(2)), its content ("" for a folder), and its stamp."""

    mode: int
    content: str
    stamp: Stamp


Files = dict[str, Entry]
"""Path below the folder -> what is there."""


def found(root: Path) -> Files:
    """Return what is in the folder `root`, and read all of it."""
    return {
        path: Entry(status.st_mode, _content(root / path, status), Stamp.of(status))
        for path, status in _statuses(root)[0].items()
    }


def write(folder: Path, files: Files) -> None:
    """Write the record into `folder`, in which the recorded one is."""
    write_atomic(folder / NAME, json.dumps(files, separators=(",", ":")))


def read(folder: Path) -> Files | None:
    """Return the record in `folder`, None if there is none or it is damaged."""
    try:
        rows = json.loads((folder / NAME).read_bytes())
        return {path: Entry(mode, content, Stamp(*times)) for path, (mode, content, times) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def differing(
    root: Path, recorded: Files, *, alone_in: Container[str] | None = None, read_all: bool = False
) -> tuple[list[str], Files]:
    """Return the paths that are not what `recorded` says, sorted, and the record with the present stamps.

    A path that is not recorded is one of them, with `alone_in` only in folders of these names.
    read_all: whether files with the recorded stamp are read, too, which finds damage of the disk.
    """
    (there, hidden), now = _statuses(root), dict(recorded)
    bad = {path for path in recorded.keys() - there.keys() if not path.startswith(hidden)}
    for path, status in there.items():
        known = recorded.get(path)
        if known is None:
            if alone_in is None or path.partition("/")[0] in alone_in:
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
    """Put the files of the folder `fresh` in the place of `paths` below `root`, one after the other.

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


def faults(folder: Path, *, alone_in: Container[str] | None = None, read_all: bool = False) -> list[str]:
    """Return the paths in `folder`/root that differ from the record in `folder`, as `differing` does.

    ["."] if there is no record.
    """
    recorded = read(folder)
    if recorded is None:
        return ["."]
    bad, now = differing(folder / ROOT, recorded, alone_in=alone_in, read_all=read_all)
    if not bad and now != recorded:  # a copy of the cache
        with suppress(OSError):  # which may be another user's
            write(folder, now)
    return bad


def told(bad: Sequence[str]) -> str:
    """Return what `faults` has found, in words."""
    if bad == ["."]:
        return "it is not recorded what was unpacked"
    return f"{shortened(bad, SHOWN)} changed or are gone since they were unpacked"


def mend(folder: Path, fresh: Path, *, alone_in: Container[str] | None = None) -> None:
    """Make `folder`/root what `fresh`/root is, by its files, and record it.

    A program in it that runs meanwhile goes on.  Raises `UserError` if a file cannot be put right.
    """
    root, wanted = folder / ROOT, found(fresh / ROOT)
    bad, _ = differing(root, wanted, alone_in=alone_in, read_all=True)
    replace(root, bad, fresh / ROOT, wanted)
    bad, now = differing(root, wanted, alone_in=alone_in)
    if bad:
        raise UserError(f"{shortened(bad, SHOWN)} in {root} cannot be put right", f"rm -r {folder}")
    write(folder, now)


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
