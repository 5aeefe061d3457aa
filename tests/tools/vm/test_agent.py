# SPDX-License-Identifier: MIT
"""/sbin/guest-agent by BusyBox's shell, on pipes in place of ports; tests/vm/test_run.py has real ones."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.initramfs import consoles
from tasks.vm.agent import _Stream
from tasks.vm.machine import PORTS

SECONDS = 60.0
SIGTERM = signal.SIGTERM.value
LARGEST = 1 << 16  # bytes of a file that the agent may write


def replaced(text: str, folder: Path, **more: str) -> str:
    """Return the script with its ports in `folder`, as pipes."""
    changes = {**more, "/sys/": f"{folder}/sys/", "/dev/$": f"{folder}/dev/$", "[ -c ": "[ -p "}
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script up to where it has found its ports; sys/ and dev/ are in the test's own folder."""
    told = f"echo $control $input $output $errors > {tmp_path}/told"
    text = replaced(consoles.scripts()[consoles.AGENT].read_text(), tmp_path)
    for old, new in {"modprobe": ": modprobe", "\tserve\n": f"\t{told}\n", "( run & ) |": "run |"}.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "agent"
    path.write_text(text)
    return path


def add_port(folder: Path, number: int, name: str) -> None:
    port = f"vport0p{number}"
    (folder / "dev").mkdir(exist_ok=True)
    os.mkfifo(folder / "dev" / port)
    (folder / "sys/class/virtio-ports" / port).mkdir(parents=True)
    (folder / "sys/class/virtio-ports" / port / "name").write_text(f"{name}\n")


def run(script: Path) -> tuple[str, str]:
    """Return what it says on the console, and the ports that it has found."""
    done = subprocess.run(["/bin/busybox", "sh", script], capture_output=True, text=True, check=False)
    told = script.with_name("told")
    return done.stdout + done.stderr, told.read_text() if told.exists() else ""


def test_a_machine_without_ports_hears_nothing_of_it(script: Path) -> None:
    """That is every PC; what it says at boot would stand on the console."""
    assert run(script) == ("", "")


def test_neither_does_one_with_a_port_of_others(script: Path, tmp_path: Path) -> None:
    add_port(tmp_path, 1, "org.qemu.guest_agent.0")
    assert run(script) == ("", "")


def test_no_login_waits_for_ports_that_are_not_there_yet(script: Path, tmp_path: Path) -> None:
    """init goes on at once: perhaps they never come."""
    script.write_text(script.read_text().replace("run |", "( run & ) |"))
    (tmp_path / "sys/bus/virtio/drivers/virtio_console/virtio1").mkdir(parents=True)
    subprocess.run(["/bin/busybox", "sh", script], check=False)
    for number, name in enumerate(PORTS):
        add_port(tmp_path, number, f"tcbuild.{name}")
    until = time.monotonic() + SECONDS
    while not (tmp_path / "told").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert (tmp_path / "told").exists(), "it went on behind init"


def test_ports_that_come_after_the_module_are_waited_for(script: Path, tmp_path: Path) -> None:
    (tmp_path / "sys/bus/virtio/drivers/virtio_console/virtio1").mkdir(parents=True)

    def come() -> None:
        for number, name in enumerate(PORTS):
            add_port(tmp_path, number, f"tcbuild.{name}")

    timer = threading.Timer(0.5, come)
    timer.start()
    said = " ".join(f"{tmp_path}/dev/vport0p{number}" for number in range(len(PORTS)))
    assert run(script) == ("", f"{said}\n")
    timer.join()


INPUT = "dev/vport0p1"


def _read(port: int, size: int) -> bytes:
    ready, _, _ = select.select([port], [], [], SECONDS)
    assert ready, "nothing comes any more"
    return os.read(port, size)


class Host:
    """The host's side of the whole agent, which runs programs as root."""

    def __init__(self, folder: Path, waited_for: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.waited_for = waited_for  # by init
        self.count = 0
        self.answers, self.control, self.output, self.errors = (
            os.open(folder / name, os.O_RDWR) for name in ("answers", *(f"dev/vport0p{n}" for n in (0, 2, 3)))
        )

    def answer(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            line += _read(self.answers, 1)
        return line.decode().strip()

    def ask(self, line: str, given: bytes | None = b"") -> tuple[str, bytes, bytes]:
        """Return the status, the output and the errors of a line for the shell; the output is short."""
        self.count += 1
        token, program = f"token{self.count}", f"#!/bin/sh\n{line}\n".encode()
        reads = "none" if given is None else "input"
        sent = {"dev/vport0p0": f"root {token} {len(program)} {reads}\n".encode() + program}
        if given is not None:
            sent[INPUT] = f"{token}\n".encode() + given
        senders = {
            port: threading.Thread(target=self._send, args=(port, content), daemon=True)
            for port, content in sent.items()
        }
        for sender in senders.values():
            sender.start()
        name, _, status = self.answer().partition(" ")
        assert name == token
        if status == "full":
            senders["dev/vport0p0"].join()
            self._send("dev/vport0p0", f"\n{token}\n".encode())
            assert self.answer() == f"{token} dropped"
        if given is not None:
            self._discard(senders[INPUT])
        return status, *(
            self._received(token, port) if status != "full" else b"" for port in (self.output, self.errors)
        )  # type: ignore[return-value]

    def _send(self, port: str, content: bytes) -> None:
        with suppress(BrokenPipeError), (self.folder / port).open("wb", buffering=0) as stream:
            while content:
                content = content[stream.write(content) :]

    def _discard(self, sender: threading.Thread) -> None:
        """Drop the input that was not read, as the guest's kernel does when a port is closed."""
        port = os.open(self.folder / INPUT, os.O_RDONLY | os.O_NONBLOCK)
        while sender.is_alive():
            with suppress(BlockingIOError):
                os.read(port, LARGEST)
            sender.join(0.001)
        os.close(port)

    def _received(self, token: str, port: int) -> bytes:
        blocks: list[bytes] = []
        stream = _Stream(token, blocks.append)
        while not stream.ended:
            stream.feed(_read(port, LARGEST))
        return b"".join(blocks)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if os.geteuid():
        pytest.skip("only root starts programs as another user")
    for number, name in enumerate(PORTS):
        add_port(tmp_path, number, f"tcbuild.{name}")
    os.mkfifo(tmp_path / "answers")
    (tmp_path / "bin").mkdir()
    subprocess.run(["/bin/busybox", "--install", "-s", tmp_path / "bin"], check=True)
    text = consoles.scripts()[consoles.AGENT].read_text()
    more = {"/tmp/": f"{tmp_path}/", ">&3\n": f"> {tmp_path}/answers\n"}
    text = replaced(text, tmp_path, **more)
    (tmp_path / "agent").write_text(text)
    agent = subprocess.Popen(
        ["/bin/busybox", "sh", tmp_path / "agent"],
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST)),
        start_new_session=True,
    )
    host = Host(tmp_path, agent)
    assert host.answer() == "ready"
    yield host
    os.killpg(agent.pid, signal.SIGKILL)
    agent.wait()


def test_a_program_opens_its_streams_by_name(host: Host) -> None:
    assert host.ask("cat /dev/stdin; echo o > /dev/stdout; echo e > /dev/stderr", b"in\n") == (
        "0",
        b"in\no\n",
        b"e\n",
    )
    assert host.ask("sleep 0.5; cat /dev/stdin; exit 3", b"all of it came before") == (
        "3",
        b"all of it came before",
        b"",
    )
    assert host.ask("head -c 1", b"x" * 300_000) == ("0", b"x", b"")
    assert host.ask("cat") == ("0", b"", b"")


def test_a_program_without_input_reads_an_empty_one(host: Host) -> None:
    assert host.ask("cat; readlink /proc/self/fd/0", None) == ("0", b"/dev/null\n", b"")
    assert host.ask("cat", b"given") == ("0", b"given", b"")


@pytest.mark.parametrize("given", [None, b"given"])
def test_a_program_that_ends_its_process_group_ends_no_agent(host: Host, given: bytes | None) -> None:
    """As scripts do to take their background programs with them."""
    assert host.ask("trap 'kill 0' EXIT; sleep 100 & echo on", given)[:2] == (str(128 + SIGTERM), b"on\n")
    assert host.ask("echo on", given) == ("0", b"on\n", b"")


def test_what_a_program_leaves_running_writes_into_no_other(host: Host) -> None:
    noise = "while :; do echo noise; echo noise >&2; usleep 1000; done"
    status, _, _ = host.ask(f"exec 9<&0; ({noise}) <&9 & echo $!", b"x" * 300_000)
    assert status == "0"
    for _ in range(3):
        assert host.ask("cat; sleep 0.1; echo own >&2", b"own") == ("0", b"own", b"own\n")
    assert host.ask("pkill -f 'echo [n]oise'; true")[1] == b""


def test_a_program_that_does_not_fit_is_not_run(host: Host) -> None:
    assert host.ask(f"touch {host.folder}/half\n# {'x' * LARGEST}")[0] == "full"
    assert not (host.folder / "half").exists()
    assert host.ask("echo whole") == ("0", b"whole\n", b"")


def test_a_program_may_remove_the_agents_folder(host: Host) -> None:
    assert host.ask(f"rm -r {host.folder}/guest-agent.*; echo done") == ("0", b"done\n", b"")
    assert host.ask("cat", b"again") == ("0", b"again", b"")


def test_the_logins_come_after_the_first_program(host: Host) -> None:
    """What it leaves running does not hold them up."""
    assert host.waited_for.poll() is None
    assert host.ask("sleep 100 & echo on", None) == ("0", b"on\n", b"")
    host.waited_for.wait(SECONDS)


def test_a_long_first_program_does_not_hold_up_the_logins(host: Host) -> None:
    def log_in() -> None:
        host.waited_for.wait(SECONDS)
        (host.folder / "logins").touch()

    thread = threading.Thread(target=log_in)
    thread.start()
    line = f"until [ -e {host.folder}/logins ]; do sleep 0.1; done; echo on"
    assert host.ask(line, None) == ("0", b"on\n", b"")
    thread.join()
    assert host.ask("echo on") == ("0", b"on\n", b"")
