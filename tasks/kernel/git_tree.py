# SPDX-License-Identifier: MIT
"""The kernel tree of a source of kind `git`: from one commit to another, only what differs is written.

So `make` compiles only what depends on it, as in a git work tree.  The tree has no `.git`.
A new one begins as a copy of that of the nearest finished build (tasks/kernel/nearest_tree.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from tasks.config import inputs
from tasks.config.kernel_source import DEFERRED, STAMP, UNPACKED_BY, unpacking_code
from tasks.config.settings import Paths
from tasks.kernel import patches
from tasks.origins.git_clone import Clone
from tasks.origins.lock import LockedCommit
from tasks.origins.sources.git import GitSource
from tasks.util.errors import UserError
from tasks.util.files import remove_with_empty_folders, write_atomic
from tasks.util.log import logger


def distance(linux: Path, paths: Paths, source: GitSource, stamp: str) -> int | None:
    """Return how many files of a tree differ from those of the locked commit.

    None if the tree is no commit of the repository that can become that one.
    """
    entry, clone = _locked(paths, source)
    tree = _tree_of(linux, stamp)
    return len(clone.differing(tree, entry.tree)) if tree and clone.has(tree) else None


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
