# SPDX-License-Identifier: MIT
"""Standard input, output and error of a run that somebody has closed, or that cannot be written to."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _LossyFile(io.FileIO):
    """A file that loses what it cannot write: an error message must not be the next error."""

    def write(self, data: Any) -> int:
        """Write `data`, or what the operating system takes of it.  Returns the number of bytes."""
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data))


def open_standard_files() -> None:
    """Open /dev/null where stdin or stderr is closed, and let stderr lose what it cannot write.

    The next files that tcbuild opens would otherwise get the numbers 0 and 2, and the programs that
    it starts would write their messages into them.  The exit code tells how a run ended without stderr.
    """
    for number in (0, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    if sys.stderr is sys.__stderr__:  # else a test or a caller has put something in its place
        raw = io.BufferedWriter(_LossyFile(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, errors="backslashreplace", line_buffering=True)


def stdout_fault() -> OSError | None:
    """Return the error of writing to stdout, None if there is none.  Such an error names no file."""
    try:
        print(flush=True)
    except OSError as error:
        discard_stdout()
        return error
    return None


def discard_stdout() -> None:
    """Redirect stdout to /dev/null, because the interpreter flushes its buffer when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())


def closed_stdout() -> str:
    """Return an error message if stdout is closed, else ""."""
    return f"standard output: {os.strerror(errno.EBADF)}" if sys.stdout is None else ""


@contextmanager
def stdout_apart() -> Iterator[int]:
    """Give the file descriptor of stdout for one answer; all else that is printed goes to stderr."""
    sys.stdout.flush()
    apart = os.dup(1)
    os.dup2(2, 1)
    try:
        yield apart
    finally:
        sys.stdout.flush()
        os.dup2(apart, 1)
        os.close(apart)


def write_whole(number: int, block: bytes) -> None:
    """Write all of `block` to a file descriptor."""
    while block:
        block = block[os.write(number, block) :]
