# SPDX-License-Identifier: MIT
"""What `./doit qemu` has the guest's agent do, while the guest's console is on the terminal."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.vm import agent as agent_module
from tasks.vm import qemu, ssh
from tasks.vm.machine import PORTS, Share, free_port, port_socket
from tasks.vm.qemu import OnTerminal
from tasks.vm.ssh import FIRST_PORT, Remote

SHARES = (Share(Path("/a"), "/mnt/a"),)
MOUNTED = b"share0 /mnt/a 9p rw,sync,trans=virtio 0 0\n"


@pytest.fixture
def running() -> Iterator[subprocess.Popen[bytes]]:
    """In place of QEMU: a process that runs until it is ended."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@pytest.fixture
def ports() -> Iterator[tuple[Path, dict[str, socket.socket]]]:
    """The ports of an agent, in a folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        made = {name: opened.enter_context(socket.socket(socket.AF_UNIX)) for name in PORTS}
        for name, port in made.items():
            port.bind(str(port_socket(Path(folder), name)))
            port.listen()
        yield Path(folder), made


def answer(ports: dict[str, socket.socket], output: bytes, errors: bytes, asked: list[bytes]) -> None:
    """Take one program as the guest's agent does, and say that it has run."""
    with ports["control"].accept()[0] as control, control.makefile("rwb") as stream:
        stream.write(b"ready\n")
        stream.flush()
        user, token, size, _ = stream.readline().split()
        asked += [user, stream.read(int(size))]
        for name, said in (("output", output), ("errors", errors)):
            with ports[name].accept()[0] as port:
                port.sendall(token + b"<" + said + token + b">")
        stream.write(token + b" 0\n")
        stream.flush()
        stream.read(1)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (MOUNTED, "share: the guest has mounted /mnt/a by 9p, read and write"),
        (b"", "the guest did not mount the share /mnt/a by 9p"),
    ],
)
def test_the_agent_mounts_it(
    output: bytes,
    said: str,
    running: subprocess.Popen[bytes],
    ports: tuple[Path, dict[str, socket.socket]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[bytes] = []
    guest = threading.Thread(target=answer, args=(ports[1], output, b"no such device\n", asked))
    guest.start()
    qemu._when_up(OnTerminal(running, ports[0]), SHARES, None)
    guest.join()
    told = capsys.readouterr()
    assert said in told.out + told.err
    assert ("no such device" in told.out + told.err) == (not output)
    assert asked[0] == b"root"
    assert b"mount -t 9p" in asked[1]


def test_without_an_agent_the_commands_are_told(
    running: subprocess.Popen[bytes],
    ports: tuple[Path, dict[str, socket.socket]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(qemu, "BOOT_SECONDS", 0.1)
    qemu._when_up(OnTerminal(running, ports[0]), SHARES, None)
    told = capsys.readouterr()
    assert "sudo sh -c 'mkdir -p /mnt/a && mount -t 9p -o trans=virtio" in told.out + told.err


def test_the_end_of_qemu_is_no_fault(
    ports: tuple[Path, dict[str, socket.socket]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(agent_module, "CHECK_SECONDS", 0.01)
    with subprocess.Popen(["true"]) as process:
        process.wait()
        qemu._when_up(OnTerminal(process, ports[0]), SHARES, None)
    told = capsys.readouterr()
    assert told.out + told.err == ""


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    """A guest whose programs are this machine's, and whose port nobody has."""
    (tmp_path / "key.pub").write_text("ssh-ed25519 A\n")
    return Remote(tmp_path, free_port(FIRST_PORT), Path("/"))


def test_a_server_that_does_not_start_is_told_and_the_guest_runs_on(
    running: subprocess.Popen[bytes],
    ports: tuple[Path, dict[str, socket.socket]],
    remote: Remote,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ssh, "_brought", lambda: ssh.Brought({}, {"awk": "usr/bin/mawk"}))
    asked: list[bytes] = []
    guest = threading.Thread(target=answer, args=(ports[1], b"user tc\n", b"no room\n", asked))
    guest.start()
    qemu._when_up(OnTerminal(running, ports[0]), (), remote)
    guest.join()
    told = capsys.readouterr()
    assert "--ssh: the server does not start in the guest" in told.out + told.err
    assert "no room" in told.out + told.err
    assert asked[0] == b"root"
    assert f"exec {ssh.IN_GUEST}/start {ssh.GUEST_PORT}".encode() in asked[1]
    assert not (remote.folder / "config").exists()


def test_without_an_agent_there_is_no_server(
    running: subprocess.Popen[bytes],
    ports: tuple[Path, dict[str, socket.socket]],
    remote: Remote,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(qemu, "BOOT_SECONDS", 0.1)
    qemu._when_up(OnTerminal(running, ports[0]), (), remote)
    told = capsys.readouterr()
    assert told.out + told.err == "warning: ssh: the guest's agent does not answer, so there is no server\n"
