# SPDX-License-Identifier: MIT
"""The kernel tree of a source of kind `git`: from one commit to another, only what differs is written.

So `make` compiles only what depends on it, as in a git work tree.  The tree has no `.git`.
A new one begins as a copy of the tree of the checkout's nearest finished build of that repository, so that
tasks/kernel/nearest_build.py can take its objects.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tasks.config import inputs
from tasks.config.kernel_source import DEFERRED, FINISHED, HEAD, STAMP, UNPACKED_BY, unpacking_code
from tasks.config.settings import Paths
from tasks.kernel import patches, tree_state
from tasks.origins.git_clone import Clone
from tasks.origins.lock import LockedCommit
from tasks.origins.sources.git import GitSource
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import atomic_dir, remove_with_empty_folders, write_atomic
from tasks.util.log import logger
from tasks.util.process import run

COPIED = ".tcbuild/copied-from"
"""In a tree that began as a copy: the build folder beside the original, and the time of its `FINISHED`."""


def tops() -> list[Path]:
    """Return the folders in which output folders lie: of the checkout, and of the trees."""
    return [CHECKOUT.artifacts, *(tree / "artifacts" for tree in CHECKOUT.trees)]


def is_of_git(linux: Path) -> bool:
    """Tell whether a kernel tree has a commit of a git repository."""
    stamp = linux / STAMP
    return stamp.is_file() and stamp.read_text().startswith(HEAD)


def copied_from(linux: Path) -> list[Path]:
    """Return the build folder with the objects of the tree that `linux` is a copy of; none if it changed."""
    try:
        known = json.loads((linux / COPIED).read_text())
        build = Path(known["build"])
        same = (build / FINISHED).stat().st_mtime_ns == known["finished"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [build] if same else []


def begin(paths: Paths, source: GitSource, stamp: str) -> None:
    """Copy the tree of the nearest finished build of the repository to `paths.linux`, if it has none yet.

    The nearest is the one whose commit differs in the fewest files.  A tree that somebody has edited in
    place is not taken.
    """
    if (paths.linux / STAMP).exists():
        return
    entry, clone = _locked(paths, source)
    marks = [mark for top in tops() for mark in top.glob(f"*/build/{FINISHED}")]
    near: dict[Path, int] = {}
    for mark in sorted(marks):
        tree = _tree_of(mark.parent.parent / "linux", stamp)
        if tree and clone.has(tree):
            near[mark] = len(clone.differing(tree, entry.tree))
    for mark in sorted(near, key=lambda mark: near[mark]):
        linux, finished = mark.parent.parent / "linux", mark.stat().st_mtime_ns
        if not tree_state.is_as_unpacked(linux):
            continue
        with atomic_dir(paths.linux) as folder:
            run(["cp", "--archive", "--reflink=auto", f"{linux}/.", folder])
            known = {"build": str(mark.parent), "finished": finished}
            write_atomic(folder / COPIED, json.dumps(known, indent=2) + "\n")
        logger.info(f"linux: begins with the files of {linux}: {near[mark]} differ")
        return


def is_fetched(paths: Paths, source: GitSource) -> bool:
    """Tell whether the locked commit is in the cache."""
    entry = inputs.locked_source(paths, source)
    return isinstance(entry, LockedCommit) and source.clone(paths.cache).has(entry.commit)


def _locked(paths: Paths, source: GitSource) -> tuple[LockedCommit, Clone]:
    """Return the locked commit, and the clone that has it.  Raises `UserError` if it is not in the cache."""
    entry, clone = inputs.locked_source(paths, source), source.clone(paths.cache)
    assert isinstance(entry, LockedCommit)
    if not clone.has(entry.commit):
        message = f"commit {entry.commit} of {source.label()} is not in the cache {paths.cache}"
        raise UserError(message, "run the same command again")
    return entry, clone


def export(paths: Paths, source: GitSource, tree: Path) -> None:
    """Write the files of the locked commit to the new folder `tree`.

    Raises `UserError` if it is not in the cache.
    """
    entry, clone = _locked(paths, source)
    tree.mkdir(parents=True)
    clone.export(entry.tree, tree)


def move(paths: Paths, source: GitSource, stamp: str) -> bool:
    """Make `paths.linux`, which has another commit, the tree of the locked one; tell whether that could be.

    stamp: what `.tcbuild/source` says then.  Files that differ get the current time.  If one of them is
    touched by a patch, all patches are reverted, and the caller applies them again.
    A killed run leaves a tree that is made anew.
    Raises `UserError` if they cannot be reverted, or the commit is not in the cache.
    """
    entry, clone = _locked(paths, source)
    before = _tree_of(paths.linux, stamp)
    if not before or not clone.has(before):
        return False
    linux, head = paths.linux, stamp.partition("\n")[0]
    changed = clone.differing(before, entry.tree)
    write_atomic(linux / STAMP, f"{head}\n\n")
    if changed.keys() & patches.touched_files(linux):
        patches.sync(linux, [], paths.logs / "patches.log")
    for path in [path for path, there in changed.items() if not there]:
        remove_with_empty_folders(linux, path)
    clone.export(entry.tree, linux, [path for path, there in changed.items() if there])
    write_atomic(linux / STAMP, stamp)
    logger.info(f"linux: {len(changed)} files differ in {entry.ref} ({entry.commit[:12]})")
    return True


def _tree_of(linux: Path, stamp: str) -> str:
    """Return the id of the tree that lies in `linux`, "" if it is another repository's or not known."""
    try:
        head, found = (linux / STAMP).read_text().split("\n")[:2]
        made_by = (linux / UNPACKED_BY).read_text()
    except (OSError, ValueError):
        return ""
    whole = not os.path.lexists(linux / DEFERRED)
    same = head == stamp.partition("\n")[0] and made_by == unpacking_code() and whole
    return found.partition(" ")[2] if same else ""
