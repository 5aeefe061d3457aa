# SPDX-License-Identifier: MIT
"""The events of a run, for programs: what `./doit TASK --events FILE` writes, and records of runs keep.

A stream is JSON Lines (https://jsonlines.org): one event a line, in the order of time.  The
dataclasses here are its schema.  A key that has its default is left out.
tasks/config/schemas/events.schema.json is the same as a JSON Schema.

Workers write their own progress.  So every line is written by one process at a time, in one piece, and
to the end of the file.  A line counts once it ends in a newline: a disk may fill up, or a run may
be killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Literal

from tasks.engine.reason import Reason
from tasks.engine.standard_files import stdout_apart, write_whole
from tasks.util.checkout import caller_folder
from tasks.util.errors import late_signals
from tasks.util.log import logger
from tasks.util.secret_patterns import publishable

VERSION: Literal[1] = 1
STDOUT = "-"

Outcome = Literal["ok", "failed", "from cache", "cut", "not run"]
Skipped = Literal["up to date", "ignored"]


@dataclass(frozen=True)
class _Event:
    """What every event has.

    at: seconds since the epoch; setting the clock during the run does not change it.
    """

    at: float


@dataclass(frozen=True)
class _TaskEvent(_Event):
    """What every event of a task has.

    task: its name, as `./doit list --all` shows it.
    """

    task: str


@dataclass(frozen=True)
class RunBegins(_Event):
    """The run begins.

    version: of this format; another number means that a key has another meaning.
    asked: the tasks of the command line.
    needed: the tasks with work that these need, in an order in which they could run.
    folder: the output folder, relative to the checkout if it lies there.
    """

    asked: tuple[str, ...]
    needed: tuple[str, ...] = ()
    folder: str = ""
    version: Literal[1] = VERSION
    event: Literal["run"] = "run"


@dataclass(frozen=True)
class TaskBegins(_TaskEvent):
    """A task begins.

    reasons: why it is not up to date.
    """

    reasons: tuple[Reason, ...]
    event: Literal["begin"] = "begin"


@dataclass(frozen=True)
class TaskProgresses(_TaskEvent):
    """A task is so far, about once a second.

    text: what it does; done, total: how much of it, as `unit`s; total: 0 if it is unknown.
    """

    text: str
    done: int = 0
    total: int = 0
    unit: str = ""
    event: Literal["progress"] = "progress"


@dataclass(frozen=True)
class TaskEnds(_TaskEvent):
    """A task ends; without a `begin` if something kept it from beginning.

    outcome: `cut` if the run ended first, `not run` if a task before it failed.
    seconds: wall time; cpu: processor seconds of the task and its programs, absent if another task
    ran at the same time.
    sizes: path below the output folder -> bytes, of the files it made.
    error: what the run says of a failure, without secrets.
    """

    outcome: Outcome
    seconds: float | None = None
    cpu: float | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    error: str = ""
    event: Literal["end"] = "end"


@dataclass(frozen=True)
class TaskSkipped(_TaskEvent):
    """A task has nothing to do.

    outcome: `ignored` after `./doit ignore`.
    """

    outcome: Skipped
    event: Literal["skip"] = "skip"


@dataclass(frozen=True)
class RunEnds(_Event):
    """The run ends.  A stream without this line is of a run that was killed.

    outcome: `failed` if a task failed, `cut` after Ctrl-C or SIGTERM.
    up_to_date: the tasks that make files and were up to date.
    """

    outcome: Outcome
    seconds: float
    up_to_date: tuple[str, ...]
    event: Literal["finish"] = "finish"


Event = RunBegins | TaskBegins | TaskProgresses | TaskEnds | TaskSkipped | RunEnds
FIRST = ("event", "version", "at", "task")


def line(event: Event) -> bytes:
    """Return an event as a line: JSON without the keys that have their defaults."""
    facts = {}
    for one in dataclasses.fields(event):
        value = getattr(event, one.name)
        default = {} if one.default_factory is not dataclasses.MISSING else one.default
        if one.name in FIRST or value != default:
            facts[one.name] = value
    head = {name: facts.pop(name) for name in FIRST if name in facts}
    return json.dumps(head | facts, separators=(",", ":"), default=Reason.record).encode() + b"\n"


class Stream:
    """A file that gets the events of a run.  If writing fails, a warning says so and the run goes on."""

    def __init__(self, handle: int, turn: IO[bytes]) -> None:
        """handle: a file descriptor that this process and its forks write to; turn: a file to lock."""
        self._handle, self._turn = handle, turn
        self._is_file = stat.S_ISREG(os.fstat(handle).st_mode)
        self._lock = threading.Lock()
        self._failed = False

    def write(self, event: Event) -> None:
        """Write an event as one line."""
        with self._lock, late_signals():
            if self._failed:
                return
            # fcntl(2): one process at a time has such a lock, and a killed one loses it.
            fcntl.lockf(self._turn, fcntl.LOCK_EX)
            end = os.fstat(self._handle).st_size
            try:
                write_whole(self._handle, line(event))
            except OSError as error:
                self._failed = True
                if self._is_file:  # half a line on a full disk: what is written later must not follow it
                    os.ftruncate(self._handle, end)
                logger.warning(f"no more events of this run: {error.strerror}")
            finally:
                fcntl.lockf(self._turn, fcntl.LOCK_UN)


@contextmanager
def opened(name: str) -> Iterator[Stream | None]:
    """Give the stream to the file `name` of the caller's folder; None if `name` is "".

    A file that exists is emptied.  `-` is stdout; all else that the run prints goes to stderr then.
    Raises `OSError` if the file cannot be written.
    """
    if not name:
        yield None
        return
    with contextlib.ExitStack() as stack:
        if name == STDOUT:
            handle = stack.enter_context(stdout_apart())
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
            handle = os.open(caller_folder() / name, flags, 0o644)
            stack.callback(os.close, handle)
        yield Stream(handle, stack.enter_context(tempfile.TemporaryFile()))


class Listener:
    """Writes the progress of one task to a stream; tasks.util.progress calls it."""

    def __init__(self, stream: Stream, now: Callable[[], float], task: str) -> None:
        """now: returns the time, in seconds since the epoch."""
        self._write, self._now, self._task = stream.write, now, task

    def __call__(self, text: str, done: int = 0, total: int = 0, unit: str = "") -> None:
        """Write that the task is so far."""
        self._write(TaskProgresses(self._now(), self._task, publishable(text), done, total, unit))


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Give `listener` the progress of what this process does."""
    if listener is None:
        yield
        return
    from tasks.util import progress  # it imports tqdm, which a run with nothing to do needs not

    progress.listener = listener
    try:
        yield
    finally:
        progress.listener = None
