"""How doit's events look: one line a task with its time, errors as text and hint."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from doit.reporter import ConsoleReporter

EXIT_NO_READER = 141  # 128 + SIGPIPE, as shells report it


class Reporter(ConsoleReporter):  # type: ignore[misc]
    """Says which task runs and how long it took; is silent about what is up to date."""

    desc = "tcbuild: one line a task, times, errors without tracebacks"

    def __init__(self, outstream: Any, options: Any) -> None:
        super().__init__(outstream, options)
        self._started: dict[str, float] = {}
        self._ran = 0

    def write(self, text: str) -> None:
        """Print; leave quietly if nobody reads any more, as in `./doit core:list | head`."""
        try:
            self.outstream.write(text)
            self.outstream.flush()
        except BrokenPipeError:
            # The interpreter flushes stdout once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(EXIT_NO_READER) from None

    def execute_task(self, task: Any) -> None:
        """Say that a task starts."""
        if task.actions:
            self.block(task)
            self.begin(task)

    def begin(self, task: Any) -> None:
        """Take note that a task starts; what it says will come as a `block`."""
        self._ran += 1
        self._started[task.name] = time.monotonic()

    def block(self, task: Any, text: str = "") -> None:
        """Write all that a task said beside others, in one piece."""
        end = "\n" if text and not text.endswith("\n") else ""
        self.write(f"=> {task.name}\n{text}{end}")

    def add_success(self, task: Any) -> None:
        """Say how long a task took."""
        if task.name in self._started:
            self.write(f"   {task.name} done in {time.monotonic() - self._started[task.name]:.1f} s\n")

    def skip_uptodate(self, task: Any) -> None:
        """An up-to-date task is not worth a line."""

    def _write_failure(self, result: Any, write_exception: bool = True) -> None:
        self.write(f"error: {result['task'].name}: {result['exception'].get_msg().strip()}\n")

    def complete_run(self) -> None:
        """Say it when there was nothing to do; errors have been shown where they happened."""
        for message in self.runtime_errors:
            self.write(f"error: {message}\n")
        if not self._ran and not self.failures and not self.runtime_errors:
            self.write("everything is up to date\n")
