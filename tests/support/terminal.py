# SPDX-License-Identifier: MIT
"""A program on a terminal: it is shown what is typed, and read what it draws."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

# What a program of ncurses sends beside its text: control sequences, and choices of a character set.
CONTROL = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][0AB]|[=>78])")
ROWS, COLUMNS = 40, 120


class Terminal:
    """A context manager for a program whose terminal is a new one, of 40 lines of 120 characters.

    limit: seconds until every wait ends.
    """

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit: float = 120.0
    ) -> None:
        self.argv, self.cwd, self.env = argv, cwd, env
        self.deadline = time.monotonic() + limit
        self._said = b""
        self._seen = 0

    def __enter__(self) -> Terminal:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            self.argv,
            cwd=self.cwd,
            env=dict(self.env),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def text(self) -> str:
        """Return all that was drawn until now, without control sequences."""
        return CONTROL.sub("", self._said.decode(errors="replace")).replace("\r\n", "\n")

    def _read(self) -> bool:
        """Read what was drawn within a short time.  Returns whether the program still has the terminal."""
        assert time.monotonic() < self.deadline, self.text()[-4000:]
        if not select.select([self._ours], [], [], 0.2)[0]:
            return True
        try:
            piece = os.read(self._ours, 1 << 16)
        except OSError:  # Linux says EIO when nobody has the other end any more
            return False
        self._said += piece
        return bool(piece)

    def expect(self, words: str) -> None:
        """Wait until `words` are drawn, after those of the last call."""
        while (at := self.text().find(words, self._seen)) < 0:
            assert self._read(), self.text()[-4000:]
        self._seen = at + len(words)

    def type(self, keys: str) -> None:
        """Type `keys`."""
        os.write(self._ours, keys.encode())

    def settle(self, quiet: float = 1.0) -> None:
        """Read until nothing has been drawn for `quiet` seconds."""
        last, until = len(self._said), time.monotonic() + quiet
        while time.monotonic() < until and self._read():
            if len(self._said) > last:
                last, until = len(self._said), time.monotonic() + quiet

    def end(self) -> tuple[int, str]:
        """Wait for the end of the program; return its exit status and all that was drawn."""
        while self._read():
            pass
        return self._process.wait(), self.text()
