# SPDX-License-Identifier: MIT
"""Whether somebody has edited the unpacked kernel tree in place.

No key and no stamp tells of such an edit.  So the tree keeps a digest of the sizes, modes and times of its
files: what they were when it was unpacked and patched.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tasks.config.kernel_source import BUILD_STAMP, CONF_FOLDER, CONF_STAMP
from tasks.config.settings import Paths
from tasks.util.files import write_atomic

STATE = ".tcbuild/state"
"""In the tree: `digest` of it when it was unpacked and patched."""
LEFT_OUT = (".tcbuild", "__pycache__")
"""How the names of files and folders begin that do not count: what tcbuild and Python keep there."""


def forget(tree: Path) -> None:
    """Say that nothing is known of the tree: tcbuild begins to change it."""
    (tree / STATE).unlink(missing_ok=True)


def forget_objects(paths: Paths) -> None:
    """Say that the objects and `conf` made from the tree, also for further kernels of it, are of another.

    Files that are unpacked or copied may be older than they are, so that make would keep them.
    """
    for stamps in (f"build*/{BUILD_STAMP}", f"kconfig*/{CONF_FOLDER}/{CONF_STAMP}"):
        for stamp in paths.output.glob(stamps):
            stamp.unlink(missing_ok=True)


def record(tree: Path) -> None:
    """Say that the tree is what its source and its patches give."""
    write_atomic(tree / STATE, digest(tree))


def is_as_unpacked(tree: Path) -> bool:
    """Tell whether the tree is what tcbuild unpacked and patched: nobody has edited it in place since.

    False also for the copy of a tree that somebody edits.
    """
    try:
        return (tree / STATE).read_text() == digest(tree)
    except FileNotFoundError:
        return False


def digest(tree: Path) -> str:
    """Return a digest of paths, sizes, modes and times of all files in a folder.  No file is read."""
    found = []
    todo = [""]
    while todo:
        below = todo.pop()
        with os.scandir(f"{tree}/{below}") as listed:
            for entry in listed:
                if entry.name.startswith(LEFT_OUT):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    todo.append(f"{below}{entry.name}/")
                    continue
                status = entry.stat(follow_symlinks=False)
                known = (below, entry.name, status.st_size, status.st_mode, status.st_mtime_ns)
                found.append(repr(known))
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest() + "\n"
