# SPDX-License-Identifier: MIT
"""Ask a running QEMU by its monitor, in QMP: lines of JSON on a socket (QEMU's documentation, "QMP")."""

from __future__ import annotations

import errno
import json
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.util.errors import UserError
from tasks.util.files import atomic_path
from tasks.vm.machine import escaped

SOCKET = "monitor.socket"
SECONDS = 30.0
NO_PNG = "Parameter 'format' is unexpected"


def options(scratch: Path) -> list[str]:
    """Return the words of QEMU's command line that open the monitor in the folder `scratch`."""
    where = f"socket,id=monitor,path={escaped(scratch / SOCKET)},server=on,wait=off"
    return ["-chardev", where, "-mon", "chardev=monitor,mode=control"]


class NoAnswer(UserError):
    """QEMU does not answer: it has ended, or it hangs."""


def ask(scratch: Path, command: str, *, within: float = SECONDS, **arguments: object) -> Any:
    """Let QEMU carry out a command of QMP; return what it answers.  within: seconds.

    Raises `UserError` with QEMU's words if it refuses, and `NoAnswer`.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rwb") as stream:
            connection.settimeout(within)
            connection.connect(str(scratch / SOCKET))
            for name, given in (("qmp_capabilities", {}), (command, arguments)):
                stream.write(json.dumps({"execute": name, "arguments": given}).encode() + b"\n")
                stream.flush()
                answer = _answer(stream)
                if "error" in answer:
                    raise UserError(f"QEMU refuses {name}: {answer['error']['desc']}")
            return answer["return"]
    except OSError as error:
        raise NoAnswer(f"QEMU does not answer: {error.strerror or error}") from None


def screenshot(scratch: Path, path: Path) -> None:
    """Write what the machine's screen shows as a PNG.  Raises as `ask` does."""
    shot = scratch / "screen.png"  # QMP carries no path that is not UTF-8
    try:
        ask(scratch, "screendump", filename=str(shot), format="png")
    except UserError as error:
        if NO_PNG in error.message:
            raise UserError("this QEMU writes no PNG", "QEMU 7.1 and newer do") from None
        raise
    with atomic_path(path) as part:
        shutil.copyfile(shot, part)


def reset(scratch: Path) -> None:
    """Start a machine of `-no-reboot` again.  From now on it may also do that itself, as SeaBIOS does once.

    Raises as `ask` does.
    """
    ask(scratch, "set-action", reboot="reset")
    ask(scratch, "system_reset")


def forbid_reboot(scratch: Path) -> None:
    """End QEMU when the machine starts itself again, as `-no-reboot` does.  Raises as `ask` does."""
    ask(scratch, "set-action", reboot="shutdown")


def _answer(stream: Iterable[bytes]) -> dict[str, Any]:
    """Return the next answer; the greeting is none, nor are events, which may come at any time."""
    for line in stream:
        answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
        if "return" in answer or "error" in answer:
            return answer
    raise ConnectionResetError(errno.ECONNRESET, "it has ended")
