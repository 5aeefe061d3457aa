"""A task in a process of its own, beside others: what it says is kept until it ends.

The process is a fork of the one that has the tasks, so that actions see what they would
see in a run one after the other; only doit's records, its reporter and the terminal stay
with the parent.  If the parent is killed, the kernel tells its workers (PR_SET_PDEATHSIG),
which leave as by SIGTERM: their programs are ended, their unfinished files removed.
"""

from __future__ import annotations

import ctypes
import mmap
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

PR_SET_PDEATHSIG = 1  # linux/prctl.h
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
NOTE_SIZE = 160


@dataclass(frozen=True)
class Outcome:
    """How a task ended: doit's failure or None, and what doit keeps of a task that ran."""

    failure: Any
    result: Any
    values: dict[str, Any]
    output: list[tuple[str | None, str | None]]
    """What each action wrote to stdout and stderr."""
    killed: bool = False
    """Whether the process was ended before the task was."""

    def apply_to(self, task: Any) -> None:
        """Make the parent's task what it would be had it run there."""
        task.executed = True
        task.result = self.result
        task.values.update(self.values)
        for action, (out, err) in zip(task.actions, self.output, strict=True):
            action.out, action.err = out, err


class Worker:
    """A running task.  It can be given to a selector: it is readable when the task has ended."""

    def __init__(self, task: Any, stream: Any) -> None:
        self.task = task
        self.started = time.monotonic()
        self.output = ""
        """All that the task wrote to stdout and stderr, once it has ended."""
        self._spool, self._outcome = _file(), _file()
        self._note = mmap.mmap(-1, NOTE_SIZE)
        for out in (sys.stdout, sys.stderr):
            out.flush()  # else the fork would write it once more
        parent = os.getpid()
        libc = ctypes.CDLL(None)
        # A signal must find the child with handlers of its own, not with the parent's.
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
        """Return what is readable when the process has ended."""
        return self._pidfd

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self.started

    @property
    def doing(self) -> str:
        """How far the task is, by its own words; "" if it has not said so."""
        return self._note[:].rstrip(b"\0").decode(errors="replace")

    def wait(self) -> Outcome:
        """Wait for the end of the process, and return what came of the task."""
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
            # Ctrl-C reaches all processes on the terminal; the parent then tells its workers.
            # No SIG_IGN: programs would inherit it.
            signal.signal(signal.SIGINT, _ignore_signal)
            signal.signal(signal.SIGTERM, _leave)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (1, 2):
                os.dup2(self._spool.fileno(), number)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            progress.note = self._set_note
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
            # Nothing of the parent's is to be closed, flushed or cleaned up here.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _set_note(self, text: str) -> None:
        self._note[:] = text.encode()[:NOTE_SIZE].ljust(NOTE_SIZE, b"\0")


def _file() -> IO[bytes]:
    """Return a file that has no name; `Worker.wait` closes it."""
    return tempfile.TemporaryFile()


def _ignore_signal(signum: int, frame: FrameType | None) -> None:
    """Leave it to the parent what a signal means."""


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, _ignore_signal)  # a second one must not cut the clean-up short
    raise Interrupted
