# SPDX-License-Identifier: MIT
"""The screen and the keyboard of a machine in QEMU, by its monitor.

A machine that boots by BIOS has the text screen of VGA: lines of 80 characters from 0xb8000 on, each
with a byte for its colours.  The kernel scrolls by moving the start of the 25 lines that are visible,
through 32 KiB.  So what scrolled away can still be read.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tasks.util.process import close_pipes, end_group, spawn
from tasks.vm.machine import Machine, argv

MEMORY, SIZE, COLUMNS = 0xB8000, 32 << 10, 80
PROMPT = b"(qemu) "


class Screen:
    """A context manager for a machine with a screen and a keyboard, and a serial port only if asked.

    limit: seconds until every wait ends.
    """

    def __init__(self, machine: Machine, *, serial: Path | None = None, limit: float = 240.0) -> None:
        self.machine = machine
        self.serial = serial
        self.deadline = time.monotonic() + limit

    def __enter__(self) -> Screen:
        self._scratch = tempfile.TemporaryDirectory(prefix="tcbuild-screen-")
        folder = Path(self._scratch.name)
        self._memory, control = folder / "screen", folder / "monitor"
        command = argv(self.machine, folder)
        command += ["-display", "none", "-monitor", f"unix:{control},server,nowait"]
        command += ["-serial", f"file:{self.serial}" if self.serial else "none"]
        self._process = spawn(command)
        self._monitor = socket.socket(socket.AF_UNIX)
        while self._monitor.connect_ex(str(control)):
            assert time.monotonic() < self.deadline
            time.sleep(0.1)
        self._monitor.settimeout(30)
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._monitor.close()
        end_group(self._process)
        close_pipes(self._process)
        self._scratch.cleanup()

    def _answer(self) -> None:
        said = b""
        while not said.endswith(PROMPT):
            said += self._monitor.recv(4096)

    def _say(self, command: str) -> None:
        self._monitor.sendall(f"{command}\n".encode())
        self._answer()

    def text(self) -> str:
        """Return what the screen shows or showed, without the spaces at the ends of lines."""
        self._say(f'pmemsave {MEMORY} {SIZE} "{self._memory}"')
        shown = self._memory.read_bytes()[::2].decode("cp437")
        lines = (shown[n : n + COLUMNS].rstrip() for n in range(0, len(shown), COLUMNS))
        return "\n".join(line for line in lines if line)

    def picture(self, path: Path) -> None:
        """Write what the screen shows as a PNG."""
        self._say(f'screendump "{path}" -f png')

    def expect(self, *words: str) -> str:
        """Wait until the screen shows all of `words`; return what it shows."""
        while True:
            shown = self.text()
            if all(word in shown for word in words):
                return shown
            assert time.monotonic() < self.deadline, f"{words} are not on the screen:\n{shown}"
            time.sleep(0.5)

    def type(self, line: str) -> None:
        """Press the keys of a line of lower-case letters, and Enter."""
        keys: Sequence[str] = [*line, "ret"]
        for key in keys:
            self._say(f"sendkey {key}")
            time.sleep(0.15)  # longer than a key is held down
