# SPDX-License-Identifier: MIT
"""One run at a time in an output folder: a second one waits for the first."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from tasks.util.files import remove_leftovers


class RunLock:
    """The lock of an output folder.  path: of the lock's file in that folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: TextIO | None = None

    def hold(self) -> bool:
        """Wait until no other run holds the lock, and hold it until `release` or the end of this process.

        Returns whether another run held it.  The kernel releases it when a run is killed (flock(2)).
        Temporary files that such a run left in the lock's folder are removed.
        """
        if self._held is not None:
            return False
        waited = False
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = self._path.open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            handle.seek(0)
            other = handle.read().strip()
            text = f"waiting for another run here{f' (process {other})' if other else ''}\n"
            with suppress(OSError):
                os.write(2, text.encode())  # because doit's JSON reporter keeps what goes to sys.stderr
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        self._held = handle
        remove_leftovers(self._path.parent)
        return waited

    def release(self) -> None:
        """Release the lock, so that another run can take it."""
        if self._held is not None:
            self._held.close()
            self._held = None
