# SPDX-License-Identifier: MIT
"""The guest's screen at a port of this machine, by the real QEMU."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.cli import variables
from tasks.util.errors import UserError
from tasks.util.process import end_group, spawn
from tasks.vm import display, machine
from tasks.vm.machine import LOOPBACK

QEMU = "qemu-system-x86_64"


@contextmanager
def shown(kind: str) -> Iterator[socket.socket]:
    """A connection to the display of a machine that stands still."""
    words, told = display.options(kind)
    scheme, _, where = told.rpartition(" ")[2].partition("://")
    host, _, port = where.partition(":")
    assert (scheme, host) == (kind, LOOPBACK)
    process = spawn([QEMU, "-S", "-nodefaults", "-vga", "std", *words])
    try:
        for _ in range(200):
            with socket.socket() as asked:
                asked.settimeout(0.1)
                if asked.connect_ex((host, int(port))) == 0:
                    asked.settimeout(20)
                    yield asked
                    break
            time.sleep(0.1)
        else:
            pytest.fail(f"{kind}: nobody listens at {where}")
    finally:
        end_group(process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def test_vnc_answers_and_a_second_guest_has_a_port_of_its_own() -> None:
    with shown("vnc") as one, shown("vnc") as two:
        assert one.getpeername() != two.getpeername()
        for asked in (one, two):
            assert asked.recv(12) == b"RFB 003.008\n"  # ProtocolVersion (RFC 6143)


def test_spice_answers() -> None:
    try:
        display.check("spice", QEMU)
    except UserError as error:
        pytest.skip(str(error))
    with shown("spice") as asked:
        # SpiceLinkMess: magic, version 2.2, bytes that follow; then of channel "main" with no capabilities.
        message = struct.pack("<IBBIII", 0, 1, 0, 0, 0, 18)
        asked.sendall(b"REDQ" + struct.pack("<III", 2, 2, len(message)) + message)
        assert asked.recv(4) == b"REDQ"


def test_a_window_needs_a_screen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in display.WINDOW:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="--display gtk: there is no screen here"):
        variables.check_qemu([("--display", "gtk")])
    monkeypatch.setenv("DISPLAY", ":7")
    assert display.environment("gtk") == {"DISPLAY": ":7"}
    assert display.environment("vnc") == {}


def test_what_this_qemu_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":7")
    for kind, package in display.PACKAGES.items():
        with pytest.raises(UserError, match=f"--display {kind}: this QEMU has none") as caught:
            display.check(kind, "true")
        assert caught.value.hint == f"apt-get install {package}"


def test_ports_that_are_all_in_use_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        monkeypatch.setattr(machine, "FREE_PORTS", 1)
        monkeypatch.setattr(display, "VNC_PORT", taken.getsockname()[1])
        with pytest.raises(UserError, match="of this machine are all in use"):
            display.options("vnc")
