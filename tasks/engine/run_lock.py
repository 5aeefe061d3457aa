"""One run at a time in an output folder: a second one waits for the first."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import TextIO

from tasks.util.files import remove_leftovers

_held: TextIO | None = None


def hold(lock: Path) -> None:
    """Wait until no other run holds `lock`, and hold it until `release` or the end of this process.

    The kernel takes it back when a run is killed (flock(2)); what that one has left half
    done in the lock's folder is removed.
    """
    global _held
    if _held is not None:
        return
    handle = lock.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        other = handle.read().strip()
        print(f"waiting for another run here{f' (process {other})' if other else ''}", file=sys.stderr)
        fcntl.flock(handle, fcntl.LOCK_EX)
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n")
    handle.flush()
    _held = handle
    remove_leftovers(lock.parent)


def release() -> None:
    """Let others run."""
    global _held
    if _held is not None:
        _held.close()
        _held = None
