"""What a killed make leaves: half-written objects that the next make would take for whole ones.

make removes the target it was working on when it is stopped, but not when it is killed
(kill -9, out of memory).  The kernel's build then compares times: a cut object is newer than
its source and has the command line of the last build beside it, so it would be linked as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.util.files import write_atomic
from tasks.util.log import logger

MARK = ".tcbuild.running"
SECONDS = 20.0
"""How much of the last work is done again; nothing is open for writing for so long."""


@contextmanager
def watched(build: Path) -> Iterator[None]:
    """Mark a build folder while make works in it; first drop what a killed make wrote last.

    The mark goes when make has ended by itself, well or not.
    """
    mark = build / MARK
    if mark.exists():
        count = drop_last(build)
        logger.info(f"kernel: the last build was killed; its last {count} files are made again")
    write_atomic(mark, "")
    try:
        yield
    except Exception:
        mark.unlink()
        raise
    mark.unlink()


def drop_last(build: Path) -> int:
    """Remove the files of `build` that were written in the `SECONDS` before the newest; return how many.

    .config and our own marks stay: they are written whole.
    """
    times = {path: path.lstat().st_mtime for path in _files(build)}
    newest = max(times.values(), default=0.0)
    last = [path for path, time in times.items() if time >= newest - SECONDS]
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
