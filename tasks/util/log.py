"""What a run tells a person: a line of progress or a warning at a time, on standard output.

Everything below the command line uses `logger`.  Commands whose result is a text print it.
"""

from __future__ import annotations

import logging


class _Lines(logging.Handler):
    """Prints each record to what is `sys.stdout` then: doit captures the output of a task."""

    def emit(self, record: logging.LogRecord) -> None:
        # In one piece: several threads may have something to say.
        print(f"{self.format(record)}\n", end="", flush=True)


class _Words(logging.Formatter):
    """The text of a record, a warning marked as one."""

    def format(self, record: logging.LogRecord) -> str:
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        return mark + super().format(record)


def _make() -> logging.Logger:
    handler = _Lines()
    handler.setFormatter(_Words())
    made = logging.getLogger("tcbuild")
    made.addHandler(handler)
    made.setLevel(logging.INFO)
    made.propagate = False  # a handler of the root logger would print the lines again
    return made


logger = _make()
