# SPDX-License-Identifier: MIT
"""Remove the half-written objects of a killed make, which the next make would link.

A make that is stopped removes the target it is writing.  A make that is killed (kill -9, out
of memory) does not.  kbuild compares mtimes and command lines: a half-written object is newer
than its source, its command line is unchanged, and so kbuild would use it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.util.files import write_atomic
from tasks.util.log import logger

MARK = ".tcbuild.running"
"""In the build folder: exists while make runs there."""
REDONE_SECONDS = 20.0
"""Files written in the last seconds of a killed build are made again; make writes no file for longer."""


@contextmanager
def mark_running(build: Path) -> Iterator[None]:
    """Mark the build folder while make runs in it; first remove what a killed make wrote last.

    The mark is removed when make ends by itself, with success or with an error.
    """
    mark = build / MARK
    if mark.exists():
        count = remove_last_written(build)
        logger.info(f"kernel: the last build was killed; its last {count} files are made again")
    write_atomic(mark, "")
    try:
        yield
    except Exception:
        mark.unlink()
        raise
    mark.unlink()


def remove_last_written(build: Path) -> int:
    """Remove the files of `build` written in the last `REDONE_SECONDS` before the newest; return how many.

    .config and tcbuild's own marks stay: both are written atomically.
    """
    times = {path: path.lstat().st_mtime for path in _files(build)}
    newest = max(times.values(), default=0.0)
    last = [path for path, time in times.items() if time >= newest - REDONE_SECONDS]
    for path in last:
        path.unlink()
    return len(last)


def _files(build: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(build):
        for name in names:
            path = Path(folder, name)
            kept = folder == str(build) and (name == ".config" or name.startswith(".tcbuild"))
            if not kept and not path.is_symlink():
                yield path
