# SPDX-License-Identifier: MIT
"""The guest's screen at a port of this machine, by the real QEMU."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.util.errors import UserError
from tasks.util.process import close_pipes, end_group, spawn
from tasks.vm import display, machine, monitor
from tasks.vm.machine import LOOPBACK, listens

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
        close_pipes(process)


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


@contextmanager
def virtual_screen(folder: Path) -> Iterator[tuple[str, Path]]:
    """An X server without a screen: its DISPLAY, and the file with its picture as XWD."""
    if not shutil.which("Xvfb"):
        pytest.skip("Xvfb is not installed (apt: xvfb)")
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1024x768x24", "-fbdir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            yield f":{server.stdout.readline().decode().strip()}", folder / "Xvfb_screen0"
        finally:
            server.terminate()


def test_a_window_shows_the_guests_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of the picture that QEMU makes of it stands on the screen here, one below the other."""
    with virtual_screen(tmp_path) as (screen, file), tempfile.TemporaryDirectory() as scratch:
        monkeypatch.setenv("DISPLAY", screen)
        try:
            display.check("gtk", QEMU)
        except UserError as error:
            pytest.skip(str(error))
        words = [QEMU, "-S", "-nodefaults", "-vga", "std", *display.options("gtk")[0]]
        process = spawn([*words, *monitor.options(Path(scratch))], env=display.environment("gtk"))
        try:
            until = time.monotonic() + 60
            while not listens(Path(scratch, monitor.SOCKET)):
                assert time.monotonic() < until
                time.sleep(0.05)
            monitor.ask(Path(scratch), "screendump", filename=str(tmp_path / "guest.ppm"))
            while not shows(file.read_bytes(), (tmp_path / "guest.ppm").read_bytes()):
                assert time.monotonic() < until, "the window does not show the guest's screen"
                time.sleep(0.2)
        finally:
            end_group(process)
            close_pipes(process)


def shows(picture: bytes, part: bytes) -> bool:
    """Tell whether a picture as XWD with 32 bits a pixel (XWDFile.h) has another, a PPM, in it."""
    header, *_ = fields = struct.unpack(">25I", picture[:100])
    width, stride, colours = fields[4], fields[12], fields[19]
    assert fields[11] == 32
    lines = bytearray(picture[header + 12 * colours :])
    lines[3::4] = bytes(len(lines) // 4)  # no colour: some programs write 255 there
    _, size, _, pixels = part.split(b"\n", 3)
    columns, rows = map(int, size.split())
    wanted = []
    for row in range(rows):
        line = pixels[3 * columns * row : 3 * columns * (row + 1)]
        blue_first = bytearray(4 * columns)
        for byte, colour in enumerate((2, 1, 0)):
            blue_first[byte::4] = line[colour::3]
        wanted.append(bytes(blue_first))
    telling = next(row for row, line in enumerate(wanted) if len(set(line)) > 1)
    at = lines.find(wanted[telling])
    top = at - telling * stride
    return (
        at >= 0
        and at % stride + 4 * columns <= 4 * width
        and all(lines[top + row * stride :][: 4 * columns] == line for row, line in enumerate(wanted))
    )


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
