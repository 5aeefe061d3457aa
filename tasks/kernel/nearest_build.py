# SPDX-License-Identifier: MIT
"""Start an empty build folder from the nearest finished build of the checkout.

Another profile, or another `out=`, often differs from a finished build in a few lines of the
configuration.  kbuild compares command lines and the symbols that each object depends on
(scripts/basic/fixdep.c), and so it compiles what differs: as in a build folder whose configuration is
edited.  What it cannot see is a file of the kernel tree that is older than the objects, and not the one
that they were made from.  So only builds of the same tree count: of one archive, with the same patches,
which nobody has edited in place.
A tree of a git repository is a copy of the one that the objects were made from (tasks/kernel/git_tree.py):
files that differ are newer than these, so another commit counts, too.
Command lines hold the paths of tree and build folder: in the copy, they are those of its own place.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from tasks.config.kernel_source import FINISHED, STAMP, UNPACKED_BY, is_tree, is_whole
from tasks.config.settings import Paths, Settings
from tasks.kernel import git_tree, source_tree
from tasks.origins.sources.git import GitSource
from tasks.util.files import atomic_dir, write_atomic
from tasks.util.log import logger
from tasks.util.process import run


def made_from(settings: Settings, toolchain: str) -> str:
    """Return what objects of the profile's kernel are made from, beside the configuration.

    "" if that cannot be known: for a tree that somebody edits.
    """
    linux = settings.paths.linux
    if is_tree(settings.profile.kernel.own_source) or not is_whole(settings.paths):
        return ""
    tree = {name: (linux / name).read_text() for name in (STAMP, UNPACKED_BY, source_tree.SERIES)}
    if isinstance(settings.profile.kernel.source, GitSource):
        tree[STAMP] = tree[STAMP].partition("\n")[0]
    arch = settings.profile.architecture.kbuild
    return json.dumps({"tree": tree, "toolchain": toolchain, "arch": arch}, indent=2) + "\n"


def begin(build: Path) -> None:
    """Say that the build folder is no finished build: make begins to change it."""
    (build / FINISHED).unlink(missing_ok=True)


def finish(build: Path, made: str) -> None:
    """Say that make has ended well in the build folder; made: what `made_from` says."""
    if made:
        write_atomic(build / FINISHED, made)


def start_from(paths: Paths, made: str) -> None:
    """Replace the empty build folder by a copy of the checkout's nearest finished build, if there is one.

    The nearest is the one whose configuration differs in the fewest lines.  made: what `made_from` says.
    """
    wanted = set(paths.config.read_text().splitlines())
    finished = _finished(made, paths.output / "build")
    if git_tree.is_of_git(paths.linux):
        finished &= {paths.output / "build", *git_tree.copied_from(paths.linux)}
    lines = {build: len(wanted ^ set(_text(build / ".config").splitlines())) for build in finished}
    for build in sorted(lines, key=lambda build: (lines[build], build)):
        if build != paths.build and _copy(build, paths, made):
            differing = f"{lines[build]} lines of the configuration differ"
            logger.info(f"kernel: starts from the objects of {build}: {differing}")
            return


def _finished(made: str, own: Path) -> set[Path]:
    """Return the build folders of the checkout and of trees whose objects were made from the same.

    own: that of the profile, which `out=` may have put elsewhere.
    """
    marks = {mark for top in git_tree.tops() for mark in top.glob(f"*/build/{FINISHED}")} | {own / FINISHED}
    found = {mark.parent for mark in marks if made and _text(mark) == made}
    return {build for build in found if (build / source_tree.UNTOUCHED).exists()}


def _text(path: Path) -> str:
    """Return the text of a file, "" if a run beside this one has removed it."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


class _Changed(Exception):
    """A run beside this one has changed the build folder that was being copied."""


def _copy(build: Path, paths: Paths, made: str) -> bool:
    """Copy a build folder to the profile's; tell whether it stayed as it was meanwhile.

    If it did not, the profile's folder is as before.
    """
    try:
        with atomic_dir(paths.build) as folder:
            before = (build / FINISHED).stat().st_mtime_ns
            # cp shares the blocks where the file system can.
            copied = run(["cp", "--archive", "--reflink=auto", f"{build}/.", folder], check=False)
            after = (build / FINISHED).stat().st_mtime_ns
            if copied.status or after != before or _text(build / FINISHED) != made:
                raise _Changed
            begin(folder)
            # A key that make has written for the signatures of modules is that build's own.
            (folder / "certs/signing_key.pem").unlink(missing_ok=True)
            _move_paths(folder, build, paths)
    except (_Changed, FileNotFoundError):
        return False
    return True


def _move_paths(copy: Path, old: Path, paths: Paths) -> None:
    """Name the profile's tree and build folder where kbuild keeps command lines: in files `.NAME.cmd`.

    old: the build folder that `copy` is a copy of.
    """
    output, build = os.fsencode(old.parent) + b"/", os.fsencode(paths.output) + b"/"
    # The folder of another kernel of the same tree has another name.
    folder = re.compile(re.escape(build + os.fsencode(old.name)) + rb"(?![\w.-])")
    for place, _, names in os.walk(copy):
        for name in names:
            if name.endswith(".cmd"):
                path = Path(place, name)
                moved = path.read_bytes().replace(output, build)
                path.write_bytes(folder.sub(lambda _: os.fsencode(paths.build), moved))
