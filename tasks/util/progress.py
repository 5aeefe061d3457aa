# SPDX-License-Identifier: MIT
"""Progress of long work: a tqdm bar on a terminal, plain periodic lines in CI."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from tqdm import tqdm

from tasks.util.log import logger
from tasks.util.process import in_ci

PLAIN_SECONDS = 30.0
NOTE_SECONDS = 0.5
LISTENER_SECONDS = 1.0

note: Callable[[str], None] | None = None
"""Receives progress while the output of a task is kept until its end (tasks.engine.worker)."""


class Listener(Protocol):
    """Receives progress for a program: what is done, and `done` of `total` units of it (0: unknown)."""

    def __call__(self, text: str, done: int = 0, total: int = 0, unit: str = "") -> None:
        """Take the progress."""


listener: Listener | None = None
"""The listener of what this process does (tasks.engine.events)."""


def announce(text: str) -> None:
    """Log `text`.  If the output of the task is kept until its end, `text` is its progress until then."""
    logger.info(text)
    if note:
        note(text)
    if listener:
        listener(text)


class Progress:
    """Counts `unit`s of work under a label; use it as a context manager.

    `total` is 0 if it is unknown; then only the finished units are shown.
    """

    def __init__(self, label: str, unit: str, total: int = 0, *, scale: bool = False) -> None:
        self.label = label
        self.unit = unit
        self.total = total
        self.scale = scale
        self.done = 0
        self._started = self._last = self._told = time.monotonic()
        self._bar: Any = None
        if not in_ci():
            self._bar = tqdm(
                total=total or None, desc=label, unit=unit, unit_scale=scale, leave=False, dynamic_ncols=True
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if kind is None:
            text = f"{self.label}: {self._amount(self.done)} in {time.monotonic() - self._started:.0f} s"
            logger.info(text)
            self._tell()

    def advance(self, count: int = 1) -> None:
        """Count `count` more units as done."""
        self.done += count
        if listener and time.monotonic() - self._told >= LISTENER_SECONDS:
            self._tell()
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._last >= (NOTE_SECONDS if note else PLAIN_SECONDS):
            self._last = time.monotonic()
            of = f" of {self._amount(self.total)}" if self.total else ""
            text = f"{self.label}: {self._amount(self.done)}{of}"
            if note:
                note(text)
            else:
                logger.info(f"{text} after {self._last - self._started:.0f} s")

    def _tell(self) -> None:
        self._told = time.monotonic()
        if listener:
            listener(self.label, self.done, self.total, self.unit)

    def _amount(self, count: int) -> str:
        """Return `count` with its unit: `1.53GB` where it is scaled, `2041 objects` otherwise."""
        return f"{tqdm.format_sizeof(count)}{self.unit}" if self.scale else f"{count} {self.unit}"
