# SPDX-License-Identifier: MIT
"""What `./doit qemu:run` makes of the words of its command line, and its exit codes."""

from __future__ import annotations

import errno
import io
import selectors
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tasks.cli.commands import QemuRun
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.vm import run
from tasks.vm.guest import Ended, GuestError, Panicked, TimedOut

TOO_SHORT = "error: 0 seconds: expected at least 1, and at most 1000000"


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["uname", "-a"], [b"exec uname -a"]),
        (["echo", "a b", "$HOME"], [b"exec echo 'a b' '$HOME'"]),
        (["echo $HOME; false"], [b"echo $HOME; false"]),
        (["true", "--", "ls", "-l"], [b"true", b"exec ls -l"]),
        (["--", "true", "--", "--"], [b"true"]),
        (["ls", "\udce9"], [b"exec ls '\xe9'"]),
    ],
)
def test_words_are_commands(words: list[str], lines: list[bytes]) -> None:
    assert run.programs(words, []) == [b"#!/bin/sh\n" + line + b"\n" for line in lines]


def test_scripts_come_first_as_they_are(tmp_path: Path) -> None:
    script = tmp_path / "check"
    script.write_bytes(b"#!/usr/bin/awk -f\nBEGIN { exit 3 }\r\n")
    assert run.programs(["true"], [script]) == [script.read_bytes(), b"#!/bin/sh\ntrue\n"]


@pytest.mark.parametrize(
    ("scripts", "said"), [([], "no command is given"), (["nowhere"], "--script nowhere: no such file")]
)
def test_nothing_to_run_is_refused(scripts: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        run.programs([], [Path(name) for name in scripts])


def options(**changes: object) -> dict[str, object]:
    usual = {"firmware": "bios", "medium": "cd", "memory": 512, "root": False, "timeout": 9, "boot": 9}
    return usual | {"share": [], "ssh": False, "dump": ""} | changes


def test_a_time_that_no_clock_takes_is_refused() -> None:
    assert run.Wanted.of(options(root=True)).user == "root"
    for name in ("timeout", "boot"):
        for seconds in (-1, 0, 1_000_001, 10**30):
            said = f"{seconds} seconds: expected at least 1, and at most 1000000"
            with pytest.raises(UserError, match=said):
                run.Wanted.of(options(**{name: seconds}))


def test_the_longest_time_is_one_that_sockets_and_threads_take() -> None:
    wanted = run.Wanted.of(options(timeout=1_000_000, boot=1_000_000))
    ours, theirs = socket.socketpair()
    with ours, theirs, selectors.DefaultSelector() as selector:
        ours.settimeout(wanted.each)
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"
        theirs.sendall(b"x")
        selector.register(ours, selectors.EVENT_READ)
        assert selector.select(wanted.boot)
    assert wanted.boot + wanted.each * 1000 < threading.TIMEOUT_MAX


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Panicked("x"), 121),
        (Ended("x"), 122),
        (run.NoPrompt("x"), 123),
        (TimedOut("x"), 124),
        (GuestError("x"), 125),
        (UserError("x"), 125),
    ],
)
def test_each_end_has_a_code_of_its_own(error: UserError, code: int) -> None:
    assert run.exit_code(error) == code
    row = f"| {code} |"
    assert row in (CHECKOUT.root / "docs/qemu.md").read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        # What follows `--` is the guest's: no variable, no empty word and no question for help.
        (["--timeout", "0", "--", "env", "A=1", "", "--help"], 125, TOO_SHORT),
        (["--memory", "3", "--", "ls"], 125, "error: --memory 3: expected at least 64 (MiB)"),
        (
            ["--share", "/:/proc", "--", "ls"],
            125,
            "error: --share /:/proc: nothing may be mounted at /proc: the system is there",
        ),
        (["profil=apt", "--", "ls"], 2, "error: unknown variable profil="),
    ],
)
def test_mistakes_have_no_code_of_a_command_and_build_nothing(words: list[str], code: int, said: str) -> None:
    done = subprocess.run(
        ["./doit", "qemu:run", *words], cwd=CHECKOUT.root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr.splitlines()


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(errno.ENOSPC, "No space left on device"), 125), (Ended("x"), 122)]
)
def test_an_error_of_this_machine_is_tcbuilds(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(run, "run", fail)
    monkeypatch.setattr(QemuRun, "build", lambda *_: False)
    assert QemuRun().execute(options(scripts=[]), ["ls"]) == code


def test_a_closed_standard_output_is_told_as_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(run, "run", fail)
    monkeypatch.setattr(QemuRun, "build", lambda *_: False)
    with pytest.raises(BrokenPipeError):  # report_errors makes 141 of it
        QemuRun().execute(options(scripts=[]), ["ls"])


class Shell:
    """In place of a guest without the agent: this machine's shell, whose kernel is left alone."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(self, command: str, timeout: float = 60.0, *, check: bool = True) -> str:
        self.asked.append(command)
        line = command.replace("sudo dmesg", "true").replace("hexdump", "busybox hexdump")
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=check)
        return done.stdout if check else f"{done.stdout}{done.returncode}"


def test_a_serial_console_carries_every_byte(tmp_path: Path) -> None:
    """The kernel's own messages, which would come between, are turned off first."""
    shell, output, errors = Shell(), io.BytesIO(), io.BytesIO()
    told = bytes(range(256)) * 3
    (tmp_path / "told").write_bytes(told)
    program = f"#!/bin/sh\n# {'x' * 300}\ncat {tmp_path}/told; echo e >&2; exit 9\n".encode()
    status = run.run_on_console(shell, program, "tc", output.write, errors.write, 60.0)  # type: ignore[arg-type]
    assert (status, output.getvalue(), errors.getvalue()) == (9, told, b"e\n")
    assert shell.asked[0] == "sudo dmesg -n 1"


def test_an_asker_takes_the_console_only_without_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Talking:
        def run(self, program: bytes, user: str, output: Any, errors: Any, given: Any, seconds: float) -> int:
            asked.append("agent")
            output(b"o")
            errors(b"e")
            return 3

    def on_console(guest: Any, program: bytes, user: str, output: Any, errors: Any, seconds: float) -> int:
        asked.append("console")
        output(b"o")
        return 4

    monkeypatch.setattr(run, "run_on_console", on_console)
    assert run.Asker(None, Talking()).ask(b"", "tc", 1.0) == (3, b"o", b"e")  # type: ignore[arg-type]
    assert run.Asker(None, None).ask(b"", "tc", 1.0) == (4, b"o", b"")  # type: ignore[arg-type]
    assert asked == ["agent", "console"]
