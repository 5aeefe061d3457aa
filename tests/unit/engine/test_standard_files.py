# SPDX-License-Identifier: MIT
"""Standard files that are closed, full or have no reader: the run goes on, or ends with one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tests.support.sidebyside import Project

BODY = """
def one(name):
    print("what it said")
    print("an error of its", file=sys.stderr)
    run(["sh", "-c", "echo to the log >&2"])
    done(name)
two = one
"""


def shell(folder: Path, command: str) -> tuple[int, str]:
    """Run `doit ...` by bash in a project with two tasks side by side; return exit status and all output."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=Project(folder, BODY, "one two").folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT.root), "CI": "1", "DOIT": doit()},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def doit() -> str:
    return f"{sys.executable} -B -m tasks.engine.main"


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
@pytest.mark.parametrize("count", ["1", "4"])
def test_a_run_needs_neither_stdin_nor_stderr(tmp_path: Path, how: str, count: str) -> None:
    status, said = shell(tmp_path, f"$DOIT run -n {count} {how}")
    assert (status, said.count("=> "), said.count("what it said")) == (0, 3, 2), said
    assert "Traceback" not in said
    assert {"one", "two", "last"} <= {path.name for path in tmp_path.iterdir()}


FULL = "error: standard output: No space left on device\n"
CLOSED = "error: standard output: Bad file descriptor\n"


@pytest.mark.parametrize(
    ("words", "how", "says"),
    [
        *((words, ">/dev/full", FULL) for words in ("list", "run -n 1", "run -n 4", "explain", "help")),
        *((words, ">&-", CLOSED) for words in ("list", "run -n 4")),
        ("run -n 4", ">/dev/full 2>/dev/full", ""),
        ("run -n 4", ">&- 2>&-", ""),
    ],
)
def test_a_stdout_that_takes_nothing_is_one_line(tmp_path: Path, words: str, how: str, says: str) -> None:
    assert shell(tmp_path, f"$DOIT {words} {how}") == (1, says)


@pytest.mark.parametrize("words", ["list", "run -n 1", "run -n 4"])
def test_nobody_reads_stdout(tmp_path: Path, words: str) -> None:
    assert shell(tmp_path, f"$DOIT {words} | true") == (141, "")


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_the_exit_status_tells_what_stderr_cannot(tmp_path: Path, how: str) -> None:
    assert shell(tmp_path, f"$DOIT nosuch {how}") == (2, "")


def test_an_answer_has_stdout_for_itself(tmp_path: Path) -> None:
    """Of programs, too; and a pipe takes a block in pieces."""
    code = """if True:
        import subprocess
        from tasks.engine.standard_files import stdout_apart, write_whole
        print("before")
        with stdout_apart() as answer:
            print("meanwhile")
            subprocess.run(["echo", "a program"])
            write_whole(answer, bytes(500_000))
        print("after")
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT.root, capture_output=True, check=True)
    assert done.stdout == b"before\n" + bytes(500_000) + b"after\n"
    assert sorted(done.stderr.splitlines()) == [b"a program", b"meanwhile"]
