# SPDX-License-Identifier: MIT
"""The host's side of the guest's agent: marks in a stream, in whatever pieces they come, and its ends."""

from __future__ import annotations

import io
import os
import random
import re
import select
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.vm import agent as agent_module
from tasks.vm.agent import Agent, _Stream
from tasks.vm.guest import Ended, GuestError, TimedOut
from tasks.vm.machine import PORTS, port_socket

TOKEN = "0123456789abcdef"
BEGIN, END = f"{TOKEN}<".encode(), f"{TOKEN}>".encode()


def passed(blocks: list[bytes]) -> tuple[bytes, bool]:
    """Return what a stream passes on of `blocks`, and whether it has ended."""
    found: list[bytes] = []
    stream = _Stream(TOKEN, found.append)
    for block in blocks:
        stream.feed(block)
    return b"".join(found), stream.ended


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BEGIN + b"a\r\n\0b" + END, (b"a\r\n\0b", True)),
        (b"of another program" + BEGIN + END, (b"", True)),
        (BEGIN + END + b"later", (b"", True)),
        (BEGIN + BEGIN + END[:-1] + END, (BEGIN + END[:-1], True)),
        (BEGIN + b"0123", (b"", False)),
        (END + BEGIN[:-1], (b"", False)),
    ],
)
def test_what_is_between_the_marks_is_passed_on(content: bytes, said: tuple[bytes, bool]) -> None:
    assert passed([content]) == said
    assert passed([content[at : at + 1] for at in range(len(content))]) == said


def test_nothing_is_kept_longer_than_a_mark() -> None:
    """A command that prints and then waits is seen at once, but for as much as a mark has."""
    shown, ended = passed([BEGIN + b"x" * 1000])
    assert not ended
    assert len(shown) > 1000 - len(END)


def test_pieces_of_any_size_give_the_same() -> None:
    chance = random.Random(4)
    inside = bytes(chance.choices(b"0123456789abcdef<>\n\0", k=5000))
    whole = b"before" + BEGIN + inside + END
    for _ in range(50):
        cuts = sorted(chance.sample(range(len(whole)), 40))
        blocks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        assert passed(blocks) == (inside, True)


class Machine:
    """In place of a guest: it has the ports, and takes nothing."""

    def __init__(self, scratch: Path, ports: dict[str, socket.socket]) -> None:
        self.scratch = scratch
        self._ports = ports
        self.ended = False
        self.heard = b""
        self.early = False

    def end(self) -> None:
        """End as QEMU does when it is killed: what lies in its sockets is lost, and they are reset."""
        with self._ports["control"].accept()[0] as accepted:
            accepted.recv(10)
        self.ended = True

    def answer(self, said: str) -> None:
        """Take a request, answer it by `said` on the control port, and drop the rest of it."""
        with self._ports["control"].accept()[0] as accepted:
            token = accepted.recv(1000).split()[1]
            accepted.sendall(token + f" {said}\n".encode())
            self.heard = accepted.recv(1000)
            self.early = bool(select.select([accepted], [], [], 0.2)[0])
            accepted.sendall(token + b" dropped\n")

    def check(self) -> None:
        if self.ended:
            raise Ended("the guest has ended")


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:  # a socket's path is short
        ports = {name: opened.enter_context(socket.socket(socket.AF_UNIX)) for name in PORTS}
        for name, port in ports.items():
            port.bind(str(port_socket(Path(folder), name)))
            port.listen()
        yield Machine(Path(folder), ports)


def run_much(machine: Machine, seconds: float) -> None:
    """Run a program that no socket's buffer takes."""
    with Agent(machine) as agent:
        agent.run(b"x" * 10_000_000, "tc", bytes, bytes, seconds=seconds)


def test_the_end_of_qemu_is_no_error_of_a_socket(machine: Machine) -> None:
    """A broken pipe would be taken for a closed standard output."""
    thread = threading.Thread(target=machine.end)
    thread.start()
    with pytest.raises(Ended):
        run_much(machine, 20.0)
    thread.join()


def test_a_guest_that_takes_no_command_is_given_up(machine: Machine) -> None:
    with pytest.raises(TimedOut, match="the guest took no command within 0 s"):
        run_much(machine, 0.2)


def test_a_guest_without_room_for_the_command_has_an_error_of_its_own(machine: Machine) -> None:
    thread = threading.Thread(target=machine.answer, args=("full",))
    thread.start()
    with (
        pytest.raises(
            GuestError, match="the guest's /tmp has no room for the command: it was not run"
        ) as caught,
        Agent(machine) as agent,
    ):
        agent.run(b"#!/bin/sh\n", "tc", bytes, bytes)
    assert "--memory" in caught.value.hint
    thread.join()
    assert re.fullmatch(rb"\n[0-9a-f]{32}\n", machine.heard), "the guest waits for the end of what it drops"
    assert not machine.early, "it may read behind that line, and a next request would be lost"


def test_a_port_that_qemu_does_not_offer_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "CONNECT_SECONDS", 0.1)
    port_socket(machine.scratch, "output").unlink()
    with pytest.raises(GuestError, match="QEMU does not offer the agent's port output"):
        run_much(machine, 1.0)


def test_input_that_is_closed_with_the_end_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that sends it may be at any place then."""
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    stream = io.FileIO(os.devnull)
    stream.close()
    ours, theirs = socket.socketpair()
    with theirs:
        feeder = agent_module._Feeder(ours, TOKEN, stream)
        feeder._thread.join(10)
        feeder.end()
    assert told == []
