# SPDX-License-Identifier: MIT
"""The guest's screen on this machine: `./doit qemu --display gtk|spice|vnc`."""

from __future__ import annotations

import os

from tasks.util.errors import UserError
from tasks.util.process import run
from tasks.vm.machine import LOOPBACK, free_port

WINDOW = ("DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR")
"""The variables by which a program finds the screen of this machine."""
VNC_PORT = 5900  # of display 0
SPICE_PORT = 5930
PACKAGES = {"gtk": "qemu-system-gui", "spice": "qemu-system-modules-spice"}


def check(kind: str, emulator: str) -> None:
    """Raise `UserError` if this machine has no such display; emulator: QEMU's program."""
    if kind == "gtk" and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        raise UserError("--display gtk: there is no screen here", "--display vnc can be seen from elsewhere")
    if kind in PACKAGES:
        asked = ["-display", "help"] if kind == "gtk" else ["-spice", "help"]
        if kind not in run([emulator, *asked], check=False).stdout:
            raise UserError(f"--display {kind}: this QEMU has none", f"apt-get install {PACKAGES[kind]}")


def options(kind: str) -> tuple[list[str], str]:
    """Return the words of QEMU's command line for a display, and what to tell the user; "" for nothing.

    Ports are bound to the loopback address.
    """
    if kind == "gtk":
        return ["-display", "gtk"], ""
    if kind == "vnc":
        port = free_port(VNC_PORT)
        return [
            "-display",
            f"vnc={LOOPBACK}:{port - VNC_PORT}",
        ], f"screen of the guest: vnc://{LOOPBACK}:{port}"
    if kind == "spice":
        port = free_port(SPICE_PORT)
        spice = f"addr={LOOPBACK},port={port},disable-ticketing=on"
        return ["-display", "none", "-spice", spice], f"screen of the guest: spice://{LOOPBACK}:{port}"
    return ["-display", "none"], ""


def environment(kind: str) -> dict[str, str]:
    """Return the variables that QEMU needs to open a window."""
    return {name: os.environ[name] for name in WINDOW if name in os.environ} if kind == "gtk" else {}
