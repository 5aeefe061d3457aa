# SPDX-License-Identifier: MIT
"""Extensions of the mirrors: copied unchanged, with a list of their paths."""

from __future__ import annotations

import stat
from pathlib import Path

from tasks.config import inputs
from tasks.config.plan import dep_text
from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util.files import write_atomic
from tasks.util.log import logger


def install(paths: Paths, profile: Profile, name: str) -> None:
    """Copy a fetched upstream extension with .dep, .md5.txt and .list to artifacts/PROFILE/tcz/.

    Logs a warning that names its device nodes and set-id programs.  Raises `UserError` if it was
    not fetched, is not in the cache, or unpacks to far too much.
    """
    item = inputs.locked_extension(paths, name)
    final = paths.tcz / f"{name}.tcz"
    write_atomic(final, inputs.extension_file(paths, name).read_bytes())
    final.with_name(f"{final.name}.info").unlink(missing_ok=True)  # left by a recipe of this name
    listed, special = listing(final)
    if special:
        logger.warning(f"{final.name} contains {', '.join(special)}")
    write_atomic(final.with_name(f"{final.name}.list"), "".join(f"{path}\n" for path in listed))
    write_atomic(final.with_name(f"{final.name}.dep"), dep_text(profile, item.deps))
    write_atomic(final.with_name(f"{final.name}.md5.txt"), f"{item.md5}  {final.name}\n")


def listing(squashfs: Path) -> tuple[list[str], list[str]]:
    """Return all paths in an extension but folders, and descriptions of devices and set-id programs.

    Raises `UserError` if it is damaged or unpacks to far too much.
    """
    from tasks.formats.squashfs import squashfs_tar  # late: it imports archive readers

    paths, special = [], []
    with squashfs_tar(squashfs) as tar:
        for entry in tar:
            if entry.isdir():
                continue
            paths.append(entry.name)
            if entry.isdev():
                special.append(f"the device node or FIFO {entry.name}")
            elif entry.isfile() and entry.mode & (stat.S_ISUID | stat.S_ISGID):
                special.append(f"{stat.filemode(stat.S_IFREG | entry.mode)} {entry.name}")
    return sorted(paths), sorted(special)
