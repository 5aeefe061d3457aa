# SPDX-License-Identifier: MIT
"""A task in a process of its own, parallel to others.  Its output is kept until it ends.

The process is a fork of the runner, so that actions find the same state as in a run without
workers.  doit's database, its reporter and the terminal stay with the parent.  If the parent is
killed, the kernel sends its workers SIGTERM (PR_SET_PDEATHSIG).  Then they end their programs
and remove their unfinished files.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any, NoReturn

from doit.exceptions import TaskFailed

from tasks.util import progress
from tasks.util.errors import EXIT_FAILED, EXIT_INTERRUPTED, Interrupted
from tasks.util.note import Note

PR_SET_PDEATHSIG = 1  # linux/prctl.h
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


@dataclass(frozen=True)
class Outcome:
    """How a task ended: doit's failure or None, and the data that doit keeps of a task."""

    failure: Any
    result: Any
    values: dict[str, Any]
    output: list[tuple[str | None, str | None]]
    """The stdout and stderr of each action."""
    killed: bool = False
    """Whether the process was ended before the end of the task."""

    def apply_to(self, task: Any) -> None:
        """Set the attributes of the parent's task as if it had run there."""
        task.executed = True
        task.result = self.result
        task.values.update(self.values)
        for action, (out, err) in zip(task.actions, self.output, strict=True):
            action.out, action.err = out, err


class Worker:
    """A running task.  A selector accepts it; it is readable when the task has ended."""

    def __init__(self, task: Any, stream: Any, listener: progress.Listener | None = None) -> None:
        """stream: doit's verbosity; listener: what gets the progress of the task."""
        self.task = task
        self._listener = listener
        self.started = time.monotonic()
        self.output = ""
        """The stdout and stderr of the task, once it has ended."""
        self._spool, self._outcome = _file(), _file()
        self._note = Note()
        for out in (sys.stdout, sys.stderr):
            out.flush()  # otherwise the fork would write the buffer again
        parent = os.getpid()
        libc = ctypes.CDLL(None)
        # The child must get no signal before it has its own handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() != parent:
                    os._exit(EXIT_INTERRUPTED)
                self._run_child(stream)
            self._pidfd = os.pidfd_open(self.pid)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def fileno(self) -> int:
        """Return the file descriptor that is readable when the process has ended."""
        return self._pidfd

    @property
    def seconds(self) -> float:
        """The seconds since its start."""
        return time.monotonic() - self.started

    @property
    def doing(self) -> str:
        """The last progress note of the task; "" if there is none."""
        return self._note.text

    def wait(self) -> Outcome:
        """Wait for the end of the process, and return the outcome of the task."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        code = os.waitstatus_to_exitcode(status)
        with self._spool as spool, self._outcome as outcome:
            spool.seek(0)
            outcome.seek(0)
            self.output = spool.read().decode(errors="replace")
            if code == 0:
                ended: Outcome = pickle.load(outcome)
                return ended
        how = f"was ended by signal {-code}" if code < 0 else f"left with exit status {code}"
        if code == EXIT_INTERRUPTED:
            how = "was interrupted"
        failure = TaskFailed(f"its process {how}\n  hint: run the same command again to continue")
        return Outcome(failure, None, {}, [(None, None)] * len(self.task.actions), killed=True)

    def terminate(self) -> None:
        """Ask the process to end, as Ctrl-C would."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        os.kill(self.pid, signal.SIGKILL)

    def _run_child(self, stream: Any) -> NoReturn:
        code = EXIT_FAILED
        try:
            # Ctrl-C reaches all processes on the terminal.  The parent then ends its workers.
            # The handler is not SIG_IGN, because programs would inherit that.
            signal.signal(signal.SIGINT, _ignore_signal)
            signal.signal(signal.SIGTERM, _leave)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (1, 2):
                os.dup2(self._spool.fileno(), number)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            progress.note, progress.listener = self._set_note, self._listener
            failure = self.task.execute(stream)
            sys.stdout.flush()
            task = self.task
            output = [(action.out, action.err) for action in task.actions]
            pickle.dump(Outcome(failure, task.result, task.values, output), self._outcome)
            self._outcome.flush()
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else EXIT_FAILED
        except BaseException:
            traceback.print_exc()
        finally:
            # os._exit: the child must not close or clean up what belongs to the parent.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _set_note(self, text: str) -> None:
        self._note.text = text


def _file() -> IO[bytes]:
    """Return a file that has no name; `Worker.wait` closes it."""
    return tempfile.TemporaryFile()


def _ignore_signal(signum: int, frame: FrameType | None) -> None:
    """Ignore a signal: the parent decides what to do."""


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, _ignore_signal)  # a second one must not cut the clean-up short
    raise Interrupted
