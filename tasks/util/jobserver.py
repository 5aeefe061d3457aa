# SPDX-License-Identifier: MIT
"""One jobserver for all programs that run at the same time, so that they share the processors.

The protocol is GNU make's (its manual, "POSIX Jobserver Interaction"): each started
program may run one job.  A pipe holds one byte, a token, for each further job that may run at
the same time.  A program reads a token before it begins a job, and writes the same byte back
after it.  Every make that `process.run` starts with `jobs` takes part, and so does every caller
of `tokens`.  If a make with a jobserver started tcbuild, all take part in that jobserver.
"""

from __future__ import annotations

import array
import fcntl
import os
import re
import stat
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

AUTH = re.compile(r"--jobserver-(?:auth|fds)=(?:(?P<read>\d+),(?P<write>\d+)|fifo:(?P<fifo>\S+))")
SLOTS = re.compile(r"(?:^|\s)-?[A-Za-z]*j\s*(?P<slots>\d+)")
TOKEN = b"+"  # what GNU make itself writes


@dataclass(eq=False)
class Jobserver:
    """A jobserver: at most `slots` jobs at the same time, one of them in this process.

    `reader` and `writer` are the ends of its pipe, which programs inherit.
    """

    slots: int
    reader: int
    writer: int
    own: bool
    """Whether tcbuild made it; False if it belongs to the make that started tcbuild."""
    _poll: int = field(init=False)

    def __post_init__(self) -> None:
        # Whether reads block is a property of the open file.  All makes share that file and
        # change the property, so this process opens the pipe once more.
        self._poll = os.open(f"/proc/self/fd/{self.reader}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def make_flags(self) -> str:
        """The MAKEFLAGS of a make that takes part; it must inherit `reader` and `writer`."""
        return f"-j{self.slots} --jobserver-auth={self.reader},{self.writer}"

    def fileno(self) -> int:
        """Return the file descriptor that is readable as long as there is a token."""
        return self._poll

    def take(self) -> bytes:
        """Take a token, without waiting.  Returns b"" if there is none."""
        try:
            return os.read(self._poll, 1)
        except BlockingIOError:
            return b""

    def give(self, token: bytes) -> None:
        """Give a token back."""
        os.write(self.writer, token)

    def free(self) -> int:
        """Return how many tokens are in the pipe."""
        count = array.array("i", [0])
        fcntl.ioctl(self._poll, termios.FIONREAD, count)
        return count[0]

    @contextmanager
    def tokens(self, up_to: int) -> Iterator[int]:
        """Yield how many jobs may run: at least 1, at most `up_to`.  It does not wait.

        The tokens are given back on leaving, also after an exception.
        """
        taken: list[bytes] = []
        try:
            while len(taken) + 1 < up_to and (token := self.take()):
                taken.append(token)
            yield 1 + len(taken)
        finally:
            for token in taken:
                self.give(token)

    def close(self) -> None:
        """Close both ends of the pipe."""
        for handle in (self._poll, self.reader, self.writer):
            os.close(handle)


_slots = 0
_current: Jobserver | None = None


def set_slots(count: int) -> None:
    """Allow `count` jobs at the same time in all.  The default is one for each processor."""
    global _slots
    _slots = count


def slots() -> int:
    """Return how many jobs may run at the same time in all."""
    # The pipe is made only when it is needed.  The pipe of a make has its own number of slots.
    if _current or AUTH.search(os.environ.get("MAKEFLAGS", "")):
        return current().slots
    return _configured_slots()


def current() -> Jobserver:
    """Return the jobserver of this run: that of the make which started tcbuild, or our own."""
    global _current
    if _current is None:
        _current = inherited(os.environ.get("MAKEFLAGS", "")) or create(_configured_slots())
    return _current


def _configured_slots() -> int:
    return _slots or len(os.sched_getaffinity(0))


def create(count: int) -> Jobserver:
    """Make a jobserver for `count` jobs."""
    reader, writer = os.pipe()
    os.write(writer, TOKEN * (count - 1))
    return Jobserver(count, reader, writer, own=True)


def inherited(make_flags: str) -> Jobserver | None:
    """Return the jobserver that MAKEFLAGS names, None if there is none or it cannot be opened.

    make passes it only to lines of a recipe that begin with `+` or name $(MAKE).
    """
    found, count = AUTH.search(make_flags), SLOTS.search(make_flags)
    if not (found and count):
        return None
    with suppress(OSError):
        if found["fifo"]:  # since make 4.4; older ones take part by a pipe only
            reader = os.open(found["fifo"], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            writer = os.open(found["fifo"], os.O_WRONLY | os.O_CLOEXEC)
            os.set_blocking(reader, True)
        else:
            reader, writer = int(found["read"]), int(found["write"])
        if _is_pipe(reader, writer):
            return Jobserver(int(count["slots"]), reader, writer, own=False)
    return None


def _is_pipe(reader: int, writer: int) -> bool:
    """Tell whether two file descriptors are the ends of one pipe: descriptor numbers are reused."""
    ends = [os.fstat(reader), os.fstat(writer)]
    modes = [fcntl.fcntl(end, fcntl.F_GETFL) & os.O_ACCMODE for end in (reader, writer)]
    same = ends[0].st_ino == ends[1].st_ino and ends[0].st_dev == ends[1].st_dev
    return same and stat.S_ISFIFO(ends[0].st_mode) and modes == [os.O_RDONLY, os.O_WRONLY]


def renew() -> None:
    """Replace tokens that killed programs did not give back.  Call it only while no task runs.

    A program that still runs keeps the old pipe.
    """
    global _current
    if _current and _current.own and _current.free() != _current.slots - 1:
        count = _current.slots
        _current.close()
        _current = create(count)


@contextmanager
def tokens(up_to: int = 0) -> Iterator[int]:
    """Yield how many threads may run here: at least 1, at most `up_to` (0: all there are).

    It is for programs other than make, such as `mksquashfs -processors`.  It does not wait, and
    gives the tokens back on leaving.
    """
    server = current()
    with server.tokens(up_to or server.slots) as count:
        yield count


def make_flags(jobs: int) -> tuple[str, tuple[int, ...]]:
    """Return the MAKEFLAGS of a make that may run `jobs` jobs, and the descriptors it inherits.

    Only a make with the number of all slots takes part in the jobserver.  Another number stands
    for itself: more jobs than processors on a compile farm, or fewer on purpose.
    """
    if jobs != slots():
        return f"-j{jobs}", ()
    server = current()
    return server.make_flags, (server.reader, server.writer)
