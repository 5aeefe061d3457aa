# SPDX-License-Identifier: MIT
"""What a folder holds besides the contents of its files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tasks.util.checkout import CHECKOUT

FILE, EXECUTABLE, FOLDER = "a file", "executable", "a folder"


def layout(folder: Path, *, folders: bool = True) -> dict[str, str]:
    """Return for all in `folder`, by its path as seen from the checkout, what it is.

    That is `FILE`, `EXECUTABLE`, `FOLDER` or `-> TARGET`.  git stores only this of a mode.  A task
    that reads a whole folder depends on it: doit sees only what the files contain.
    folders: whether folders are listed, which counts where an empty one is copied, too.
    """
    found: dict[str, str] = {}
    for top, below, names in os.walk(folder):
        for name in (*below, *names):
            path = os.path.join(top, name)
            try:
                about = _kind(path)
            except FileNotFoundError:  # it was removed since it was listed
                continue
            if folders or about != FOLDER:
                found[CHECKOUT.name_of(Path(path))] = about
    return dict(sorted(found.items()))


def _kind(path: str) -> str:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return f"-> {os.readlink(path)}"
    if stat.S_ISDIR(mode):
        return FOLDER
    return EXECUTABLE if mode & stat.S_IXUSR else FILE
