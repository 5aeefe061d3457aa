# SPDX-License-Identifier: MIT
"""What a folder holds besides the contents of its files."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.util.checkout import CHECKOUT
from tasks.util.files import Stamp, stamp

FILE, EXECUTABLE, FOLDER = "a file", "executable", "a folder"


@dataclass(frozen=True)
class Tree:
    """A folder that a task reads as a whole.  Called, it returns its `layout`.

    folders: whether folders are listed, which counts where an empty one is copied, too.
    under: folders whose files of the same path it hides, the lowest first.
    left_out: names of folders that do not count.
    """

    folder: Path
    folders: bool = True
    under: tuple[Path, ...] = ()
    left_out: tuple[str, ...] = ()

    def __call__(self) -> dict[str, str]:
        """Return for all in the folder, by its path as seen from the checkout or its tree, what it is.

        That is `FILE`, `EXECUTABLE`, `FOLDER` or `-> TARGET`.  git stores only this of a mode.  The
        task depends on it: doit sees only what the files contain.
        """
        found: dict[str, str] = {}
        for top, below, names in self._walk():
            for name in (*below, *names):
                path = os.path.join(top, name)
                try:
                    about = _kind(path)
                except FileNotFoundError:  # it was removed since it was listed
                    continue
                if self.folders or about != FOLDER:
                    found[CHECKOUT.label_of(Path(path))] = about
        return dict(sorted(found.items()))

    def stamps(self) -> dict[str, Stamp | None]:
        """Return the stamp of each folder.  It changes also if a file comes and goes again."""
        return {top: stamp(top) for top, _, _ in self._walk()}

    def _walk(self) -> Iterator[tuple[str, list[str], list[str]]]:
        for top, folders, names in itertools.chain.from_iterable(map(os.walk, (*self.under, self.folder))):
            folders[:] = [name for name in folders if name not in self.left_out]
            yield top, folders, names


def _kind(path: str) -> str:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return f"-> {os.readlink(path)}"
    if stat.S_ISDIR(mode):
        return FOLDER
    return EXECUTABLE if mode & stat.S_IXUSR else FILE
