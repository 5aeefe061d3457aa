# SPDX-License-Identifier: MIT
"""What `./doit qemu:run` makes of the words of its command line, and its exit codes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.vm import run
from tasks.vm.guest import Ended, GuestError, Panicked, TimedOut


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
    return usual | changes


def test_a_time_below_a_second_is_refused() -> None:
    assert run.Wanted.of(options(root=True)).user == "root"
    for name in ("timeout", "boot"):
        with pytest.raises(UserError, match="0 seconds: expected at least 1"):
            run.Wanted.of(options(**{name: 0}))


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


def test_what_follows_two_dashes_is_no_variable_and_builds_nothing() -> None:
    """`A=1` there is the guest's; without a command, nothing is built or booted."""
    done = subprocess.run(
        ["./doit", "qemu:run", "--timeout", "0", "--", "env", "offline=maybe", "A=1"],
        cwd=CHECKOUT.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.splitlines()[-1] == "error: 0 seconds: expected at least 1"
