"""A kernel source that is a folder of somebody's, edited in place: `source = { kind = "file" }`.

It is copied once; later edits are noticed and copied file by file, so that `make` compiles
only what they touch.  What is compared is names, sizes and mtimes (git's index goes by the
same), for reading a gigabyte would cost more than the build.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.config.kernel_source import STAMP
from tasks.config.settings import Settings
from tasks.kernel import patches
from tasks.util.files import atomic_dir, remove_tree, write_atomic
from tasks.util.log import logger

FILES = ".tcbuild/files"
OURS = (".git", ".tcbuild")  # of the folder's top: not copied, not looked at
UNKNOWN = ""


def is_current(settings: Settings) -> bool:
    """Tell whether the kernel tree has all edits; true where the source is no folder."""
    tree = settings.profile.kernel.source.tree()
    if tree is None:
        return True
    try:
        known = (settings.linux / STAMP).read_text()
    except OSError:
        return False
    return known.splitlines()[-1:] == [_line(tree, scan(tree))]


def sync(settings: Settings, origin: Path) -> None:
    """Make `settings.linux` hold what `origin` does, with new mtimes where that changed.

    Patches are taken back before, for the patches stage to apply again.  Raises `UserError` if they
    cannot be.  A run cut short is made up for by the next.
    """
    tree = settings.linux
    now = scan(origin)
    line = _line(origin, now)
    before = _known(tree, origin)
    if before is None:
        with atomic_dir(tree) as folder:
            # Without .git: kernel releases would get a "+" from it (scripts/setlocalversion).
            shutil.copytree(origin, folder, symlinks=True, dirs_exist_ok=True, ignore=_ours_of(origin))
            _note(folder, now, f"{line}\n")
        return
    stale = [path for path in before.keys() | now.keys() if before.get(path) != now.get(path)]
    if not stale:
        return
    patches.sync(tree, [], settings.logs / "patches.log")
    first = (tree / STAMP).read_text().splitlines()[0]
    # Until they are copied, nothing is known of them: this run may be cut, and the edit undone.
    _note(tree, {**before, **dict.fromkeys(stale, UNKNOWN)}, f"{first}\n{UNKNOWN}\n")
    for path in stale:
        if path not in now:
            remove_tree(tree / path)
    for path in stale:
        if path in now:
            _copy(origin / path, tree / path)
    _note(tree, now, f"{first}\n{line}\n")
    logger.info(f"linux: took over {len(stale)} changed file(s) of {origin}")


def scan(origin: Path) -> dict[str, str]:
    """Return what tells states of a folder apart: path below it -> size and mtime, or a link's target."""
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
                elif path not in OURS:
                    todo.append(f"{path}/")
    return found


def _line(origin: Path, state: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(state):
        digest.update(f"{path}\0{state[path]}\n".encode(errors="surrogateescape"))
    return f"{origin} {digest.hexdigest()}"


def _known(tree: Path, origin: Path) -> dict[str, str] | None:
    """Return the state of `origin` when it was copied; None if it never was, or something is damaged."""
    try:
        if not (tree / STAMP).read_text().startswith(f"{origin} "):
            return None
        return dict(json.loads((tree / FILES).read_text()))
    except (OSError, ValueError):
        return None


def _note(tree: Path, state: Mapping[str, str], source: str) -> None:
    write_atomic(tree / FILES, json.dumps(state))
    write_atomic(tree / STAMP, source)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or link.  Its mtime is now: an edit may have brought an older one than the objects'."""
    remove_tree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target, follow_symlinks=False)


def _ours_of(top: Path) -> Callable[[str, list[str]], list[str]]:
    return lambda folder, names: list({*OURS} & {*names}) if Path(folder) == top else []
