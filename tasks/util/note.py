# SPDX-License-Identifier: MIT
"""A short text that a process shares with its forks, whichever of them writes it."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress

SIZE = 160
"""The most bytes of a note; what is longer is cut."""


class Note:
    """A text in memory that the process which makes it shares with the forks it starts later."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SIZE)
        self._token, sink = os.pipe()  # with one byte, for the first who reads it
        os.write(sink, b"x")
        os.close(sink)

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self._token)

    @property
    def text(self) -> str:
        """The text; "" as long as nobody has written one."""
        return self._memory[:].rstrip(b"\0").decode(errors="replace")

    @text.setter
    def text(self, text: str) -> None:
        self._memory[:] = text.encode()[:SIZE].ljust(SIZE, b"\0")

    def write_first(self, text: str) -> bool:
        """Write the text unless this was called before, in whichever process; tell whether it was not."""
        is_first = os.read(self._token, 1) != b""
        if is_first:
            self.text = text
        return is_first
