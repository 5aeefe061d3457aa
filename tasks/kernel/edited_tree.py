# SPDX-License-Identifier: MIT
"""A kernel source that is a local folder, which its owner edits: `source = { kind = "file" }`.

The folder is copied once.  Later runs copy only the edited files, so that `make` compiles only
what depends on them.  Edits are found by names, sizes and mtimes, as git's index does: reading
a gigabyte would cost more than the build.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.config.kernel_source import STAMP
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.kernel import patches
from tasks.util.files import atomic_dir, remove_tree, write_atomic
from tasks.util.log import logger

FILES = ".tcbuild/files"
IGNORED = (".git", ".tcbuild")  # at the top of the folder: neither copied nor compared
UNKNOWN = ""


def is_current(paths: Paths, profile: Profile) -> bool:
    """Tell whether the kernel tree has all edits; true if the source is not a folder."""
    tree = profile.kernel.source.tree()
    if tree is None:
        return True
    try:
        known = (paths.linux / STAMP).read_text()
    except OSError:
        return False
    return known.splitlines()[-1:] == [_stamp_line(tree, scan(tree))]


def sync(paths: Paths, origin: Path) -> None:
    """Make `paths.linux` a copy of `origin`, with new mtimes for the files that changed.

    If a file changed, all patches are reverted first; the caller applies them again.  Raises
    `UserError` if they cannot be reverted.  The next run completes an interrupted one.
    """
    tree = paths.linux
    now = scan(origin)
    line = _stamp_line(origin, now)
    before = _recorded_state(tree, origin)
    if before is None:
        with atomic_dir(tree) as folder:
            # Without .git: scripts/setlocalversion would append a "+" to the release.
            shutil.copytree(origin, folder, symlinks=True, dirs_exist_ok=True, ignore=_ignored_in(origin))
            _record_state(folder, now, f"{line}\n")
        return
    stale = [path for path in before.keys() | now.keys() if before.get(path) != now.get(path)]
    if not stale:
        return
    patches.sync(tree, [], paths.logs / "patches.log")
    stamp_origin = (tree / STAMP).read_text().splitlines()[0]
    # Recorded as unknown until they are copied: this run may be killed, and the edit undone later.
    _record_state(tree, {**before, **dict.fromkeys(stale, UNKNOWN)}, f"{stamp_origin}\n{UNKNOWN}\n")
    for path in stale:
        if path not in now:
            remove_tree(tree / path)
    for path in stale:
        if path in now:
            _copy(origin / path, tree / path)
    _record_state(tree, now, f"{stamp_origin}\n{line}\n")
    logger.info(f"linux: copied {len(stale)} changed file(s) of {origin}")


def scan(origin: Path) -> dict[str, str]:
    """Return the state of a folder by relative path: a file's size, mtime and mode, or a link's target."""
    found: dict[str, str] = {}
    todo = [""]
    while todo:
        below = todo.pop()
        with os.scandir(f"{origin}/{below}") as entries:
            for entry in entries:
                path = below + entry.name
                if entry.is_symlink():
                    found[path] = f"-> {os.readlink(entry.path)}"
                elif not entry.is_dir():
                    status = entry.stat()
                    found[path] = f"{status.st_size} {status.st_mtime_ns} {status.st_mode:o}"
                elif path not in IGNORED:
                    todo.append(f"{path}/")
    return found


def _stamp_line(origin: Path, state: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(state):
        digest.update(f"{path}\0{state[path]}\n".encode(errors="surrogateescape"))
    return f"{origin} {digest.hexdigest()}"


def _recorded_state(tree: Path, origin: Path) -> dict[str, str] | None:
    """Return the state of `origin` at the last copy; None if there was none or its record is damaged."""
    try:
        if not (tree / STAMP).read_text().startswith(f"{origin} "):
            return None
        return dict(json.loads((tree / FILES).read_text()))
    except (OSError, ValueError):
        return None


def _record_state(tree: Path, state: Mapping[str, str], source: str) -> None:
    write_atomic(tree / FILES, json.dumps(state))
    write_atomic(tree / STAMP, source)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or link, with the current time as mtime: the edited file may be older than its object."""
    remove_tree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target, follow_symlinks=False)


def _ignored_in(top: Path) -> Callable[[str, list[str]], list[str]]:
    return lambda folder, names: list({*IGNORED} & {*names}) if Path(folder) == top else []
