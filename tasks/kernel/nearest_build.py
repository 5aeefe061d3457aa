# SPDX-License-Identifier: MIT
"""Start an empty build folder from the nearest finished build of this machine.

Another profile, checkout, or `out=` often differs from a finished build in a few lines of the
configuration.  kbuild compares command lines and the symbols that each object depends on
(scripts/basic/fixdep.c), and so it compiles what differs: as in a build folder whose configuration is
edited.  What it cannot see is a file of the kernel tree that is older than the objects, and not the one
that they were made from.  So only builds of the same tree count: of one archive, with the same patches,
which nobody has edited in place.
A tree of a git repository is a copy of the one that the objects were made from
(tasks/kernel/nearest_tree.py): files that differ are newer than these, so another commit counts, too.
The folder in which Kconfig's `conf` is compiled begins as a copy, too.
Command lines, lists of dependencies and symbolic links hold the paths of tree and build folder: in the copy,
they are those of its own place.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.config.kernel_source import CONF_STAMP, FINISHED, SERIES, STAMP, UNPACKED_BY, is_tree, is_whole
from tasks.config.settings import Paths, Settings
from tasks.kernel import finished_builds, nearest_tree
from tasks.kernel.finished_builds import Changed
from tasks.origins.sources.git import GitSource
from tasks.util.files import remove_tree
from tasks.util.log import logger

DRAWN = (
    "certs/signing_key.pem",
    "scripts/basic/randstruct.seed",
    "scripts/gcc-plugins/randomize_layout_seed.h",
)
"""In a build folder: what make has drawn by chance, maybe for an earlier configuration."""


def made_from(settings: Settings, toolchain: str) -> str:
    """Return what objects of the profile's kernel are made from, beside the configuration.

    "" if that cannot be known: for a tree that somebody edits.
    """
    linux = settings.paths.linux
    if is_tree(settings.profile.kernel.own_source) or not is_whole(settings.paths):
        return ""
    tree = {name: (linux / name).read_text() for name in (STAMP, UNPACKED_BY, SERIES)}
    if isinstance(settings.profile.kernel.source, GitSource):
        tree[STAMP] = tree[STAMP].partition("\n")[0]
    arch = settings.profile.architecture.kbuild
    return json.dumps({"tree": tree, "toolchain": toolchain, "arch": arch}, indent=2) + "\n"


def start_from(settings: Settings, made: str) -> None:
    """Replace the empty build folder by a copy of the nearest finished build, if there is one.

    The nearest is the one whose configuration differs in the fewest lines.  made: what `made_from` says.
    """
    if not made:
        return
    paths = settings.paths
    wanted = set(paths.config.read_text().splitlines())
    finished = {mark.parent for mark in finished_builds.marks(settings)} - {paths.build.absolute()}
    if nearest_tree.is_of_git(paths.linux):
        finished &= {paths.output.absolute() / "build", *nearest_tree.copied_from(paths.linux)}
    texts = {build: finished_builds.text_of(build / ".config") for build in finished}
    lines = {build: len(wanted ^ set(text.splitlines())) for build, text in texts.items()}
    for build in sorted(lines, key=lambda build: (lines[build], build)):
        if finished_builds.is_as_finished(build, made) and _copy(build, paths, made):
            differing = f"{lines[build]} lines of the configuration differ"
            logger.info(f"kernel: starts from the objects of {build}: {differing}")
            return


def _copy(build: Path, paths: Paths, made: str) -> bool:
    """Copy a build folder to the profile's, which keeps its own marks; tell whether that worked.

    If the folder is not as it was when its build was finished, the profile's is as before.
    """
    try:
        with finished_builds.copied(build, paths.build) as folder:
            if not finished_builds.is_as_finished(folder, made):
                raise Changed
            for mark in folder.glob(".tcbuild*"):
                mark.unlink()
            for mark in paths.build.glob(".tcbuild*"):
                shutil.copy2(mark, folder)
            for drawn in DRAWN:
                (folder / drawn).unlink(missing_ok=True)
            _move_paths(folder, build, paths)
    except Changed:
        return False
    return True


def begin_conf(folder: Path, paths: Paths, origin: Callable[[Path], str]) -> None:
    """Replace `folder`, where `conf` is compiled, by a copy of the one beside the tree that ours comes from.

    origin: what the mark of such a folder says for a tree.  If there is no such folder, somebody uses it,
    or has used it since that tree's build was finished, there is none here afterwards.
    """
    remove_tree(folder)
    for build in nearest_tree.copied_from(paths.linux):
        near = build.parent / folder.relative_to(paths.output)
        mark = near / CONF_STAMP
        try:
            marked = mark.stat().st_mtime_ns
            # Marked later, it may be of a tree that has changed since it was copied.
            later = marked > (build / FINISHED).stat().st_mtime_ns
            if later or mark.read_text() != origin(build.parent / paths.linux.name):
                continue
            with finished_builds.copied(near, folder) as copy:
                # A run that begins there takes the mark away, and writes another at its end.
                if mark.stat().st_mtime_ns != marked:
                    raise Changed
                _move_paths(copy, build, paths)
        except (Changed, FileNotFoundError):
            continue


def _move_paths(copy: Path, old: Path, paths: Paths) -> None:
    """Name the profile's tree and build folder where kbuild has written them.

    These are command lines (`.NAME.cmd`), dependencies (`.NAME.d`), and symbolic links.
    old: the build folder of the output folder that `copy` comes from.
    """
    output, build = os.fsencode(old.parent) + b"/", os.fsencode(paths.output) + b"/"
    # The folder of another kernel of the same tree has another name.
    folder = re.compile(re.escape(build + os.fsencode(old.name)) + rb"(?![\w.-])")

    def moved(text: bytes) -> bytes:
        return folder.sub(lambda _: os.fsencode(paths.build), text.replace(output, build))

    for place, folders, names in os.walk(copy):
        for path in (Path(place, name) for name in [*folders, *names]):
            if path.is_symlink():
                target = os.fsencode(path.readlink())
                if moved(target) != target:
                    path.unlink()
                    path.symlink_to(os.fsdecode(moved(target)))
            elif path.name.endswith((".cmd", ".d")) and path.is_file():
                path.write_bytes(moved(path.read_bytes()))
