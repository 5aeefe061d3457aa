# SPDX-License-Identifier: MIT
"""Print doit's events: one line a task with its time, errors as text and hint."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from doit.reporter import ConsoleReporter

from tasks.util.errors import EXIT_NO_READER


class Reporter(ConsoleReporter):  # type: ignore[misc]
    """Prints which task runs and how long it took, but nothing of tasks that are up to date."""

    desc = "tcbuild: one line a task, times, errors without tracebacks"
    interrupted = False
    """Whether the run ends before it is through; the runner sets it."""

    def __init__(self, outstream: Any, options: Any) -> None:
        super().__init__(outstream, options)
        self._started: dict[str, float] = {}
        self._ran = 0

    def write(self, text: str) -> None:
        """Print `text`.  Exit with code 141 if nobody reads stdout, as in `./doit core:list | head`."""
        try:
            self.outstream.write(text)
            self.outstream.flush()
        except BrokenPipeError:
            # The interpreter flushes stdout once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(EXIT_NO_READER) from None

    def execute_task(self, task: Any) -> None:
        """Print that a task starts."""
        if task.actions:
            self.block(task)
            self.begin(task)

    def begin(self, task: Any) -> None:
        """Note that a task starts; its output is printed later by `block`."""
        self._ran += 1
        self._started[task.name] = time.monotonic()

    def block(self, task: Any, text: str = "") -> None:
        """Print the name of a task and its whole output, in one piece."""
        end = "\n" if text and not text.endswith("\n") else ""
        self.write(f"=> {task.name}\n{text}{end}")

    def add_success(self, task: Any) -> None:
        """Print how long a task took."""
        if task.name in self._started:
            self.write(f"   {task.name} done in {time.monotonic() - self._started[task.name]:.1f} s\n")

    def skip_uptodate(self, task: Any) -> None:
        """Print nothing for a task that is up to date."""

    def _write_failure(self, result: Any, write_exception: bool = True) -> None:
        self.write(f"error: {result['task'].name}: {result['exception'].get_msg().strip()}\n")

    def complete_run(self) -> None:
        """Print errors of the run itself, or that there was nothing to do."""
        for message in self.runtime_errors:
            self.write(f"error: {message}\n")
        if not (self._ran or self.failures or self.runtime_errors or self.interrupted):
            self.nothing_done()

    def nothing_done(self) -> None:
        """Print that there was nothing to do."""
        self.write("everything is up to date\n")


class QuietReporter(Reporter):
    """Prints as `Reporter` does, but nothing if there was nothing to do."""

    desc = "as console, but nothing if everything is up to date"

    def nothing_done(self) -> None:
        """Print nothing."""
