# SPDX-License-Identifier: MIT
"""The finished kernel builds of this machine: those of the checkout, and those of this user's other ones.

A build folder has the file `FINISHED` while no make of tcbuild runs there and none has failed.  It says what
the objects were made from, and the state of the folder then.
A note in the cache folder tells other checkouts of it: `kernels/NAME`, a file whose text is the path of the
output folder.  A note is a hint: whoever follows it looks at the folder itself.  A run without this user's
own cache of results reads and writes no notes: it is to make all itself.

Other runs, and people, may change or remove a folder while it is copied.  So it is the copy that is checked.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.config.kernel_source import FINISHED
from tasks.config.settings import Settings
from tasks.kernel import tree_state
from tasks.util.checkout import CHECKOUT
from tasks.util.files import atomic_dir, write_atomic
from tasks.util.process import run

NOTES = "kernels"
"""In the cache folder: the notes."""


class Changed(Exception):
    """What was copied is not what it was when its build was finished."""


def begin(build: Path) -> None:
    """Say that the build folder is no finished build: make begins to change it."""
    (build / FINISHED).unlink(missing_ok=True)


def finish(settings: Settings, made: str) -> None:
    """Say that make has ended well in the build folder of a profile, and tell other checkouts of it.

    made: what the objects were made from.  A further kernel of the profile's tree is not told.
    """
    paths = settings.paths
    write_atomic(paths.build / FINISHED, _mark(paths.build, made))
    if settings.network.own_cache and not paths.variant:
        output = str(paths.output.absolute())
        write_atomic(paths.cache / NOTES / hashlib.sha256(output.encode()).hexdigest()[:16], f"{output}\n")


def is_as_finished(build: Path, made: str) -> bool:
    """Tell whether a build folder, or its copy, is as it was when a build of what was `made` was finished."""
    text = text_of(build / FINISHED)
    try:
        return text.startswith(made) and text == _mark(build, made)
    except OSError:  # a run beside this one removes it
        return False


def _mark(build: Path, made: str) -> str:
    return made + tree_state.digest(build)


def text_of(path: Path) -> str:
    """Return the text of a file, "" if a run beside this one has removed it, or if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def marks(settings: Settings) -> set[Path]:
    """Return the files `FINISHED` of the checkout, its trees, the output folder, and other checkouts."""
    tops = [CHECKOUT.artifacts, *(tree / "artifacts" for tree in CHECKOUT.trees)]
    found = {mark for top in tops for mark in top.glob(f"*/build/{FINISHED}")}
    found.add(settings.paths.output / "build" / FINISHED)
    if settings.network.own_cache:
        found |= _noted(settings.paths.cache / NOTES)
    return {mark.absolute() for mark in found if mark.is_file()}


def _noted(notes: Path) -> set[Path]:
    """Return the files `FINISHED` that notes tell of, if this user owns the folders that they lie in.

    A note of a folder that is gone is removed.
    """
    found = set()
    for note in notes.glob("[0-9a-f]*"):
        output = Path(text_of(note).removesuffix("\n"))
        try:
            status = (output / "build").lstat()
        except OSError:
            if not output.is_dir():
                note.unlink(missing_ok=True)
            continue
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
            found.add(output / "build" / FINISHED)
    return found


@contextmanager
def copied(folder: Path, into: Path) -> Iterator[Path]:
    """Yield a copy of a folder, which then replaces `into`; files keep their times, and links stay links.

    Blocks are shared where the file system can do that.  Hard links would not do: make and people write
    to some files in place.  Raises `Changed` if the folder cannot be copied; if the body raises
    anything, `into` is as before.
    """
    with atomic_dir(into) as copy:
        if run(["cp", "--archive", "--reflink=auto", f"{folder}/.", copy], check=False).status:
            raise Changed
        yield copy
