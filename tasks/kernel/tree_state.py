# SPDX-License-Identifier: MIT
"""Whether somebody has edited the unpacked kernel tree in place.

No key and no stamp tells of such an edit.  So the tree keeps a digest of the sizes, modes and times of its
files: what they were when it was unpacked and patched.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tasks.util.files import write_atomic

STATE = ".tcbuild/state"
"""In the tree: `_state` of it when it was unpacked and patched."""
LEFT_OUT = (".tcbuild", "__pycache__")
"""Names of folders in the tree that are no source."""


def forget(tree: Path) -> None:
    """Say that nothing is known of the tree: tcbuild begins to change it."""
    (tree / STATE).unlink(missing_ok=True)


def record(tree: Path) -> None:
    """Say that the tree is what its source and its patches give."""
    write_atomic(tree / STATE, _state(tree))


def is_as_unpacked(tree: Path) -> bool:
    """Tell whether the tree is what tcbuild unpacked and patched: nobody has edited it in place since.

    False also for the copy of a tree that somebody edits.
    """
    try:
        return (tree / STATE).read_text() == _state(tree)
    except FileNotFoundError:
        return False


def _state(tree: Path) -> str:
    """Return a digest of paths, sizes, modes and times of all sources in the tree.  No file is read."""
    found = []
    todo = [""]
    while todo:
        below = todo.pop()
        with os.scandir(f"{tree}/{below}") as listed:
            for entry in listed:
                if entry.is_dir(follow_symlinks=False):
                    todo += [] if entry.name in LEFT_OUT else [f"{below}{entry.name}/"]
                    continue
                status = entry.stat(follow_symlinks=False)
                known = (below, entry.name, status.st_size, status.st_mode, status.st_mtime_ns)
                found.append(repr(known))
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest() + "\n"
