# SPDX-License-Identifier: MIT
"""The messages of a run for a person: lines of progress and warnings, on standard output.

All modules below the command line use `logger`.  Commands whose result is a text print it.
"""

from __future__ import annotations

import logging

from tasks.util.text import as_typed, printable


class _Lines(logging.Handler):
    """Prints each record to the current `sys.stdout`, which doit replaces while a task runs."""

    def emit(self, record: logging.LogRecord) -> None:
        # One call writes text and newline, so that lines of several threads do not mix.
        print(f"{printable(as_typed(self.format(record)))}\n", end="", flush=True)


class _MessageFormat(logging.Formatter):
    """Formats a record as its text; a warning begins with `warning: `."""

    def format(self, record: logging.LogRecord) -> str:
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        return mark + super().format(record)


def _make() -> logging.Logger:
    handler = _Lines()
    handler.setFormatter(_MessageFormat())
    made = logging.getLogger("tcbuild")
    made.addHandler(handler)
    made.setLevel(logging.INFO)
    made.propagate = False  # a handler of the root logger would print the lines again
    return made


logger = _make()
