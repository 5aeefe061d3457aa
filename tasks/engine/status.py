# SPDX-License-Identifier: MIT
"""The list of running tasks: a live line on a terminal, a plain line every half minute in CI."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable

from tasks.util.log import logger
from tasks.util.process import in_ci
from tasks.util.progress import PLAIN_SECONDS

LIVE_SECONDS = 1.0


class Status:
    """Shows the running tasks, their times and their progress."""

    def __init__(self) -> None:
        self._plain = in_ci()
        self._last = time.monotonic()
        self._shown = False

    @property
    def seconds(self) -> float:
        """Seconds until `show` should be called again."""
        if not self._plain:
            return LIVE_SECONDS
        return max(0.0, self._last + PLAIN_SECONDS - time.monotonic())

    def show(self, running: Iterable[tuple[str, float, str]]) -> None:
        """Show the running tasks: (name, seconds, progress or "")."""
        self._last = time.monotonic()
        text = "running: " + ", ".join(
            f"{name} {seconds:.0f} s" + (f" ({doing})" if doing else "") for name, seconds, doing in running
        )
        if self._plain:
            logger.info(text)
            return
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\033[K{text[:width]}")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Remove the live line, so that other output can be written."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
            self._shown = False
