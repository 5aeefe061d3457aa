"""One jobserver over all that runs side by side, so that processors are not asked for twice.

The protocol is GNU make's (its manual, "POSIX Jobserver Interaction"): whoever starts a
program gives it the right to run one job, and a pipe holds one byte, a token, for each
further job that may run at the same time.  A token is read before a job is begun, and the
same byte written back after it.  Every make that `tasks.run` starts with `jobs` takes part,
and so does whoever asks for `tokens`; if tcbuild itself was started by a make that has a
jobserver, all take part in that one.
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
    """A jobserver: `slots` jobs at the same time in all, one of them this process's own.

    `reader` and `writer` are the ends of its pipe, as programs inherit them.
    """

    slots: int
    reader: int
    writer: int
    own: bool
    """False if a make that started tcbuild made it."""
    _poll: int = field(init=False)

    def __post_init__(self) -> None:
        # Whether reads block is a property of the open file, which all makes share and set
        # as they need it: a second one is opened for us.
        self._poll = os.open(f"/proc/self/fd/{self.reader}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def make_flags(self) -> str:
        """What MAKEFLAGS says to a make that takes part; it must inherit `reader` and `writer`."""
        return f"-j{self.slots} --jobserver-auth={self.reader},{self.writer}"

    def fileno(self) -> int:
        """Return what is readable as long as there is a token."""
        return self._poll

    def take(self) -> bytes:
        """Return a token, b"" if there is none at the moment."""
        try:
            return os.read(self._poll, 1)
        except BlockingIOError:
            return b""

    def give(self, token: bytes) -> None:
        """Give a token back."""
        os.write(self.writer, token)

    def free(self) -> int:
        """Return how many tokens nobody has taken."""
        count = array.array("i", [0])
        fcntl.ioctl(self._poll, termios.FIONREAD, count)
        return count[0]

    @contextmanager
    def tokens(self, up_to: int) -> Iterator[int]:
        """Yield how many jobs may run: at least 1, at most `up_to`.  Waits for nothing.

        What was taken is given back on leaving, however that happens.
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
    """Let `count` jobs run at the same time in all; otherwise one for each processor."""
    global _slots
    _slots = count


def slots() -> int:
    """Return how many jobs may run at the same time in all."""
    # A pipe is made only when it is needed, but that of a make has its own number.
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
    """Return the jobserver that MAKEFLAGS names, None if there is none or it cannot be reached.

    make lets only those lines of a recipe reach it that begin with `+` or name $(MAKE).
    """
    found, count = AUTH.search(make_flags), SLOTS.search(make_flags)
    if not (found and count):
        return None
    with suppress(OSError):
        if found["fifo"]:  # make 4.4; those before know but pipes, and so they get one
            reader = os.open(found["fifo"], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            writer = os.open(found["fifo"], os.O_WRONLY | os.O_CLOEXEC)
            os.set_blocking(reader, True)
        else:
            reader, writer = int(found["read"]), int(found["write"])
        if _is_pipe(reader, writer):
            return Jobserver(int(count["slots"]), reader, writer, own=False)
    return None


def _is_pipe(reader: int, writer: int) -> bool:
    """Tell whether two open files are the ends of one pipe: numbers are used again."""
    ends = [os.fstat(reader), os.fstat(writer)]
    modes = [fcntl.fcntl(end, fcntl.F_GETFL) & os.O_ACCMODE for end in (reader, writer)]
    same = ends[0].st_ino == ends[1].st_ino and ends[0].st_dev == ends[1].st_dev
    return same and stat.S_ISFIFO(ends[0].st_mode) and modes == [os.O_RDONLY, os.O_WRONLY]


def renew() -> None:
    """Make up for tokens that killed programs never gave back.  Call it only while nothing runs.

    What is still under way, if anything is, keeps the old pipe.
    """
    global _current
    if _current and _current.own and _current.free() != _current.slots - 1:
        count = _current.slots
        _current.close()
        _current = create(count)


@contextmanager
def tokens(up_to: int = 0) -> Iterator[int]:
    """Yield how many threads may run here: at least 1, at most `up_to` (0: all there are).

    For programs that are no make, as `mksquashfs -processors`.  Waits for nothing, and
    gives all back on leaving.
    """
    server = current()
    with server.tokens(up_to or server.slots) as count:
        yield count


def make_flags(jobs: int) -> tuple[str, tuple[int, ...]]:
    """Return what MAKEFLAGS says to a make that may run `jobs` jobs, and the files it inherits.

    Other numbers than that of all slots are a make's own affair: more than this machine
    has processors (a compile farm's), or fewer for a reason.
    """
    if jobs != slots():
        return f"-j{jobs}", ()
    server = current()
    return server.make_flags, (server.reader, server.writer)
