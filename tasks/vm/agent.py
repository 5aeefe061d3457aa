# SPDX-License-Identifier: MIT
"""Run programs in a guest by its agent, /sbin/guest-agent, over ports of a virtio-serial device.

Output and errors travel byte for byte, each by a port of its own; so does the input.  The protocol
stands at the head of that script.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Protocol

from tasks.vm.guest import Ended, GuestError, TimedOut
from tasks.vm.machine import port_socket

BLOCK = 1 << 16
CONNECT_SECONDS = 20.0
CHECK_SECONDS = 0.5  # how often the guest is looked at while nothing comes
FULL, DROPPED = "full", "dropped"  # in place of a status
FULL_HINT = "free some there by an earlier command, or give the guest more memory: --memory"
Sink = Callable[[bytes], object]


class Started(Protocol):
    """A QEMU that runs: `Guest`, or one with its console on the terminal (tasks/vm/qemu.py)."""

    @property
    def scratch(self) -> Path:
        """The folder of its sockets."""

    def check(self) -> None:
        """Raise `GuestError` if it has ended."""


class Agent:
    """The host's side of the agent of a started guest whose machine has `agent`.

    Use it as a context manager: leaving it closes the connections, and the agent ends.
    """

    def __init__(self, guest: Started) -> None:
        self._guest = guest
        with ExitStack() as opened:
            self._control, self._output, self._errors = (
                opened.enter_context(_connected(guest, name)) for name in ("control", "output", "errors")
            )
            self._opened = opened.pop_all()
        self._line = b""

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def wait(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the agent answers.  Returns False if it does not within `seconds`, or is `enough`.

        Raises `GuestError` if the guest panics or ends.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            until = time.monotonic() + seconds
            while time.monotonic() < until and not enough():
                for _ in selector.select(CHECK_SECONDS):
                    if "ready" in self._lines():
                        return True
                self._guest.check()
        return False

    def run(
        self,
        program: bytes,
        user: str,
        output: Sink,
        errors: Sink,
        given: IO[bytes] | None = None,
        seconds: float = 60.0,
    ) -> int:
        """Run `program`, the bytes of an executable file, in the guest.  Returns its exit status.

        user: tc or root.  output, errors: take each block of bytes that it writes.  given: what it
        reads as its input, nothing if None.  A program that a signal ends has the status 128 and the
        signal's number.  Raises `TimedOut` after `seconds`, and `GuestError` if the guest panics or ends, or
        has no room for the program.
        """
        token = secrets.token_hex(16)
        reads = "none" if given is None else "input"
        self._ask(f"{user} {token} {len(program)} {reads}\n".encode() + program, seconds)
        feeder = _Feeder(_connected(self._guest, "input"), token, given) if given is not None else None
        streams = {
            self._output: _Stream(token, output),
            self._errors: _Stream(token, errors),
        }
        until = time.monotonic() + seconds
        status: int | None = None
        try:
            with selectors.DefaultSelector() as selector:
                for one in (self._control, *streams):
                    selector.register(one, selectors.EVENT_READ)
                while status is None or not all(stream.ended for stream in streams.values()):
                    left = until - time.monotonic()
                    if left <= 0:
                        raise TimedOut(f"the command did not end within {seconds:.0f} s")
                    for key, _ in selector.select(min(left, CHECK_SECONDS)):
                        if key.fileobj is self._control:
                            status = self._status(token, status)
                        else:
                            block = _received(key.fileobj)  # type: ignore[arg-type]
                            streams[key.fileobj].feed(block)  # type: ignore[index]
                    self._guest.check()
        finally:
            if feeder:
                feeder.end()
        return status

    def _ask(self, request: bytes, seconds: float) -> None:
        """Send a request.  Raises `TimedOut` if the guest hangs and takes none, and `Ended` without QEMU."""
        try:
            self._control.settimeout(seconds)
            self._control.sendall(request)
        except TimeoutError:
            self._guest.check()
            raise TimedOut(f"the guest took no command within {seconds:.0f} s") from None
        except ConnectionError:
            self._guest.check()
            raise Ended("the guest has ended") from None

    def _status(self, token: str, status: int | None) -> int | None:
        for line in self._lines():
            name, _, said = line.partition(" ")
            if name == token:
                if said == FULL:
                    self._ask(f"\n{token}\n".encode(), CONNECT_SECONDS)
                    continue
                if said == DROPPED:
                    raise GuestError(
                        "the guest's /tmp has no room for the command: it was not run", FULL_HINT
                    )
                status = int(said)
        return status

    def _lines(self) -> list[str]:
        """Return the whole lines that have come on the control port."""
        *lines, self._line = (self._line + _received(self._control)).split(b"\n")
        return [line.decode("ascii", "replace") for line in lines]


class _Stream:
    """What comes on a port, of which the bytes between two marks are those of one program."""

    def __init__(self, token: str, sink: Sink) -> None:
        self._begin, self._end = f"{token}<".encode(), f"{token}>".encode()
        self._sink = sink
        self._kept = b""
        self._begun = False
        self.ended = False

    def feed(self, block: bytes) -> None:
        """Pass on the bytes of the program in `block`.  What may be the start of a mark is kept."""
        if self.ended:
            return  # what is left running there still writes
        self._kept += block
        if not self._begun:
            _, mark, rest = self._kept.partition(self._begin)
            if not mark:
                self._kept = self._kept[-len(self._begin) + 1 :]
                return
            self._begun, self._kept = True, rest
        found = self._kept.find(self._end)
        self.ended = found >= 0
        whole = found if self.ended else max(0, len(self._kept) - len(self._end) + 1)
        if whole:
            self._sink(self._kept[:whole])
        self._kept = b"" if self.ended else self._kept[whole:]


class _Feeder:
    """A thread that sends the input of a program: it may block in reading and in sending."""

    def __init__(self, port: socket.socket, token: str, given: IO[bytes]) -> None:
        self._port = port
        self._thread = threading.Thread(target=self._send, args=(token, given), daemon=True)
        self._thread.start()

    def _send(self, token: str, given: IO[bytes]) -> None:
        try:
            self._port.sendall(f"{token}\n".encode())
            while block := os.read(given.fileno(), BLOCK):
                self._port.sendall(block)
            # QEMU would lose what it has not read yet, if the socket were closed here.
            self._port.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):
            pass  # the program has ended, or the guest; ValueError: and its input is closed

    def end(self) -> None:
        """End the connection, so that the next program gets nothing of this input."""
        self._port.close()


def _received(port: socket.socket) -> bytes:
    """Return what has come on a port; b"" if QEMU has closed it, whose end `Guest.check` tells."""
    try:
        return port.recv(BLOCK)
    except ConnectionError:
        return b""


def _connected(guest: Started, name: str) -> socket.socket:
    """Return a connection to a port.  Raises `GuestError` if QEMU does not offer it."""
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(str(port_socket(guest.scratch, name)))
        except OSError:
            made.close()
            guest.check()
            if time.monotonic() > until:
                raise GuestError(f"QEMU does not offer the agent's port {name}") from None
            time.sleep(0.05)
        else:
            return made
