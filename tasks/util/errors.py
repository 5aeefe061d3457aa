# SPDX-License-Identifier: MIT
"""The errors that a user sees, and their translation into one line and an exit code."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, Self

from tasks.util.text import as_typed, printable

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_NO_READER = 141  # 128 + SIGPIPE: the reader of stdout has closed it


class UserError(Exception):
    """A fault that the person who runs tcbuild can act on.

    `message` says what is wrong in one line; `hint` says what to do about it;
    `detail` holds further lines (a log's tail, unmet dependencies) shown below.
    """

    def __init__(self, message: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail

    def reworded(self, message: str, hint: str | None = None, detail: str | None = None) -> Self:
        """Return this error, of its class and with its further fields, with other words.

        None leaves a hint or a detail as it is.
        """
        self.args = (message,)
        self.message = message
        self.hint = self.hint if hint is None else hint
        self.detail = self.detail if detail is None else detail
        return self

    def __str__(self) -> str:
        lines = [as_typed(self.message)]
        if self.hint:
            lines.append(f"  hint: {as_typed(self.hint)}")
        if self.detail:
            lines.append(self.detail.rstrip("\n"))
        return printable("\n".join(lines))


class DiskFull(UserError):
    """A file cannot grow: a file system is full, or the shell limits it.  What was read is not at fault."""


class ToolMissing(UserError):
    """A needed program is not installed on this machine."""


class WrongSha256(UserError):
    """A server sends a file whose sha256 differs from the locked one."""


class WrongAddress(UserError):
    """No server has the file, or no server is named: the addresses must be checked."""


class Interrupted(SystemExit):
    """Ctrl-C or SIGTERM.  It passes through every `finally` and prints no traceback."""

    def __init__(self) -> None:
        super().__init__(EXIT_INTERRUPTED)


def from_os_error(error: OSError) -> UserError:
    """Return an operating system error as a `UserError`, with a hint for common ones."""
    # Of a copy the second name is that of the file that cannot grow.
    writes = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    name = error.filename2 if writes and error.filename2 else error.filename
    where = f": {name}" if name else ""
    text = f"{error.strerror or error}{where}"
    hints = {
        errno.ENOSPC: "free some space, then run the same command again; finished work is kept",
        errno.EFBIG: "this shell limits the size of files; raise it: ulimit -f unlimited",
        errno.EDQUOT: "the disk quota is used up; free some space and run again",
        errno.EACCES: "check the permissions of that path",
        errno.EROFS: "that file system is mounted read-only",
    }
    return UserError(text, hints.get(error.errno or 0, ""))


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn a `UserError` or `OSError` into its text on stderr and exit code 1."""
    try:
        yield
    except UserError as error:
        fail(error)
    except OSError as error:
        fail(from_os_error(error))


def fail(error: UserError) -> NoReturn:
    """Print `error` on stderr and exit with code 1."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(EXIT_FAILED)


LEAVING = (signal.SIGINT, signal.SIGTERM)


def install_signal_handlers() -> None:
    """Let Ctrl-C and SIGTERM raise `Interrupted`, so that partial files are removed.

    Build objects stay: the next run continues from them.
    """

    def leave(signum: int, frame: FrameType | None) -> NoReturn:
        # A second signal while cleaning up must not cut the clean-up short.
        for one in LEAVING:
            signal.signal(one, signal.SIG_IGN)
        print("\ninterrupted; run the same command again to continue", file=sys.stderr)
        raise Interrupted

    for one in LEAVING:
        signal.signal(one, leave)


@contextmanager
def late_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block ends.

    A program that is being started would otherwise be left running: nobody knows of it yet.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    came: list[int] = []
    before = {one: signal.signal(one, lambda signum, _: came.append(signum)) for one in LEAVING}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    for signum in came:
        signal.raise_signal(signum)
