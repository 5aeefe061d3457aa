# SPDX-License-Identifier: MIT
"""Begin a kernel tree as a copy of the tree beside the nearest finished build of this machine.

To copy one takes a third of the time to unpack one.  All files have the times of the original, so objects
that were made from it (tasks/kernel/nearest_build.py) are newer than they are.  A tree of a git repository
needs that: its commits have no times.
A tree that somebody has edited in place is not taken.
"""

from __future__ import annotations

import json
from pathlib import Path

from tasks.config.kernel_source import FINISHED, HEAD, SERIES, STAMP, is_stamped
from tasks.config.settings import Settings
from tasks.kernel import finished_builds, git_tree, patches, tree_state
from tasks.kernel.finished_builds import Changed
from tasks.origins.sources.git import GitSource
from tasks.util.files import write_atomic
from tasks.util.log import logger

COPIED = ".tcbuild/copied-from"
"""In a tree that began as a copy: the build folder beside the original, and the time of its `FINISHED`."""


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


def begin(settings: Settings, stamp: str) -> bool:
    """Copy the nearest tree to `paths.linux`, if there is none yet; tell whether that is the wanted tree.

    stamp: what `.tcbuild/source` of the wanted tree says.  An archive's tree must have the same patches.  Of
    a repository the nearest is the one whose commit differs in the fewest files; its patches may differ.
    Raises `UserError` if a locked commit is not in the cache.
    """
    paths = settings.paths
    if (paths.linux / STAMP).exists():
        return False
    near: dict[Path, int] = {}
    for mark in finished_builds.marks(settings):
        count = _distance(mark.parent.parent / "linux", settings, stamp)
        if count is not None:
            near[mark] = count
    for mark in sorted(near, key=lambda mark: (near[mark], mark)):
        linux = mark.parent.parent / "linux"
        if tree_state.is_as_unpacked(linux) and _copy(mark, settings, stamp):
            logger.info(f"linux: begins with the files of {linux}: {near[mark]} differ")
            return not isinstance(settings.profile.kernel.own_source, GitSource)
    return False


def _distance(linux: Path, settings: Settings, stamp: str) -> int | None:
    """Return how many files of a tree differ from those of the wanted one, None if it cannot become that."""
    source = settings.profile.kernel.own_source
    if isinstance(source, GitSource):
        return git_tree.distance(linux, settings.paths, source, stamp)
    wanted = patches.listing(patches.series(settings.profile))
    try:
        return 0 if is_stamped(linux, stamp) and (linux / SERIES).read_text() == wanted else None
    except OSError:
        return None


def _copy(mark: Path, settings: Settings, stamp: str) -> bool:
    """Copy the tree beside a finished build to the profile's; tell whether that worked.

    If another run changes it meanwhile, the profile's is as before.
    """
    linux, paths = mark.parent.parent / "linux", settings.paths
    try:
        known = {"build": str(mark.parent), "finished": mark.stat().st_mtime_ns}
        with finished_builds.copied(linux, paths.linux) as folder:
            if _distance(folder, settings, stamp) is None or not tree_state.is_as_unpacked(folder):
                raise Changed
            write_atomic(folder / COPIED, json.dumps(known, indent=2) + "\n")
            tree_state.forget_objects(paths)
    except (Changed, FileNotFoundError):
        return False
    return True
