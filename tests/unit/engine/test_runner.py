# SPDX-License-Identifier: MIT
"""Tasks side by side: whole blocks of output, all tasks' records, and nothing left behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tests.support.sidebyside import Project, interrupt, processes, soon

MANY_LINES = """
def talk(name, other):
    done(f"began-{name}")
    wait_for(f"began-{other}")
    for number in range(1500):
        print(f"{name} print {number}")
        sys.stdout.flush()
        os.write(2, f"{name} stderr {number}\\n".encode())
        if number % 500 == 0:
            import subprocess
            subprocess.run(["sh", "-c", f"echo {name} program {number}; echo {name} more >&2"])
    print(f"{name} without a newline", end="")
    done(name)

def one(name):
    talk(name, "two")

def two(name):
    talk(name, "one")
"""


def test_each_task_is_one_block_however_much_they_say_at_once(tmp_path: Path) -> None:
    said = Project(tmp_path, MANY_LINES, "one two").doit().splitlines()
    starts = [number for number, line in enumerate(said) if line.startswith("=> ")]
    assert sorted(said[start] for start in starts) == ["=> last", "=> one", "=> two"]
    assert starts[0] == 0
    for start, end in zip(starts, [*starts[1:], len(said)], strict=True):
        name = said[start][3:]
        block = said[start + 1 : end]
        assert block.pop().startswith(f"   {name} done in ")
        if name == "last":
            continue
        expected = []
        for number in range(1500):
            expected += [f"{name} print {number}", f"{name} stderr {number}"]
            expected += [f"{name} program {number}", f"{name} more"] if number % 500 == 0 else []
        assert block == [*expected, f"{name} without a newline"]


def test_verbosity_is_as_ever(tmp_path: Path) -> None:
    said = Project(tmp_path, MANY_LINES, "one two").doit("-v", "0")
    assert "print" not in said
    assert "=> one" in said


NOBODY = """
def one(name):
    print(f"one {os.getpid()} {sys.stdin.isatty()}")
    done(name)

def show():
    print(f"show {os.getpid()}")

def task_show():
    return {"actions": [show], "uptodate": [False]}

def task_interactive():
    return {"actions": [(one, ["interactive"])], "targets": ["interactive"], "io": {"capture": False}}
"""


def test_what_is_alone_runs_in_the_process_itself(tmp_path: Path) -> None:
    process = Project(tmp_path, NOBODY, "one").start()
    said, _ = process.communicate(timeout=60)
    assert f"one {process.pid} " in said, "a single ready task needs no process"


def test_what_needs_the_terminal_runs_alone_though_others_are_ready(tmp_path: Path) -> None:
    process = Project(tmp_path, NOBODY, "one").start("one", "interactive", "show")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.count(f"one {process.pid} ") == 2
    assert f"show {process.pid}" in said


def test_one_at_a_time_needs_no_processes_at_all(tmp_path: Path) -> None:
    body = """
def one(name):
    print(f"{name} {os.getpid()}")
    done(name)
two = one
"""
    process = Project(tmp_path, body, "one two").start("-n", "1")
    said, _ = process.communicate(timeout=60)
    assert said.count(f" {process.pid}\n") == 2


READERS = """
import functools

@functools.cache
def read(what):
    with open("readers", "a") as readers:
        readers.write(f"{what} {os.getpid()}\\n")

def use(name):
    read("root")
    done(name)

def reading(name):
    return {"actions": [(use, [name])], "targets": [name], "meta": {"before_fork": [(read, ["root"])]}}

def task_three():
    return reading("three")

def task_four():
    return reading("four")
"""


def test_what_many_tasks_read_is_read_once_before_they_are_apart(tmp_path: Path) -> None:
    process = Project(tmp_path, READERS, "").start("three", "four")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert (tmp_path / "readers").read_text() == f"root {process.pid}\n"


def test_nothing_to_do(tmp_path: Path) -> None:
    project = Project(tmp_path, MANY_LINES, "one two")
    assert project.ran() == ["last", "one", "two"]
    assert project.doit() == "everything is up to date\n"
    assert project.doit("--reporter", "quiet") == ""


FAILING = """
def bad(name):
    wait_for("began")
    print("what it said")
    if not os.path.exists("mended"):
        raise UserError("it is broken", "mend it", "  | the log's tail")
    done(name)

def good(name):
    done("began")
    if not os.path.exists("mended"):
        time.sleep(0.5)
    done(name)
"""


def test_a_failure_is_told_once_and_what_runs_beside_it_is_finished(tmp_path: Path) -> None:
    project = Project(tmp_path, FAILING, "bad good")
    said = project.doit(status=1)
    expected = "=> bad\nwhat it said\nerror: bad: it is broken\n  hint: mend it\n  | the log's tail\n"
    assert said.count(expected) == said.count("error: ") == 1
    assert "   good done in" in said
    assert "=> last" not in said
    (tmp_path / "mended").touch()
    assert project.ran() == ["bad", "last"]


SLOTS = """
def any(name):
    running(1, wanted=2)
    wait_for("reached")
    time.sleep(0.02)
    running(-1)
    done(name)
a = b = c = d = e = any
"""


def test_no_more_tasks_at_once_than_slots(tmp_path: Path) -> None:
    project = Project(tmp_path, SLOTS, "a b c d e")
    project.doit(env={"SLOTS": "2"})
    assert project.most() == 2


CHAIN = """
def a(name):
    wait_for("began-z")
    done(name)
b = a

def z(name):
    done("began-z")
    done(name)

def task_after():
    return {"actions": [(done, ["after"])], "file_dep": ["z"], "targets": ["after"]}

def task_late():
    return {"actions": [(done, ["late"])], "file_dep": ["after", "a", "b"], "targets": ["late"]}
"""


def test_what_most_others_wait_for_goes_first(tmp_path: Path) -> None:
    """By the order of names, the only two slots would be those of `a` and `b`, which wait for `z`."""
    Project(tmp_path, CHAIN, "a b z").doit("a", "b", "late", env={"SLOTS": "2"})


CUT = """
def quick(name):
    done(name)

def half(name):
    with atomic_path(Path(name)) as partial:
        partial.write_text("half")
        done(f"began-{name}")
        run(["sh", "-c", "sleep $0 & wait", os.environ["MARKER"]])
half1 = half2 = half
"""


@pytest.fixture
def marker() -> str:
    """A time to sleep that no other process sleeps."""
    return f"98765.{os.getpid()}"


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def cut_project(folder: Path, marker: str) -> tuple[Project, subprocess.Popen[str]]:
    """Start three tasks: one is done and recorded, two are in the middle of a file."""
    project = Project(folder, CUT, "quick half1 half2")
    process = project.start("last", env={"MARKER": marker})
    project.wait_for("quick", "began-half1", "began-half2")
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("   quick done in") for line in lines)
    return project, process


def test_ctrl_c_ends_all_and_keeps_what_was_done(tmp_path: Path, marker: str) -> None:
    project, process = cut_project(tmp_path, marker)
    assert len(parts(tmp_path)) == 2
    said = interrupt(process)
    assert process.returncode == 130
    assert said.count("interrupted; run the same command again to continue") == 1
    assert "error:" not in said
    assert "Traceback" not in said
    assert parts(tmp_path) == []
    soon(lambda: not processes(marker))
    assert not (tmp_path / "half1").exists()
    assert project.ran("quick") == []


def test_kill_9_of_doit_ends_its_workers_too_and_keeps_what_was_done(tmp_path: Path, marker: str) -> None:
    project, process = cut_project(tmp_path, marker)
    assert processes(marker)
    process.kill()
    process.communicate()
    soon(lambda: not processes(marker) and not parts(tmp_path))
    assert project.ran("quick") == []
    assert not (tmp_path / "half1").exists()


def test_a_worker_that_is_killed_fails_its_task_alone(tmp_path: Path) -> None:
    body = """
def shot(name):
    wait_for("began", "watching")  # what it takes with it is no slot of theirs
    with jobserver.tokens():
        os.kill(os.getpid(), 9)

def good(name):
    done("began")
    wait_for("free")
    done(name)

def watch(name):
    done("watching")
    wait_for("began")
    done("free")
    done(name)
"""
    said = Project(tmp_path, body, "shot good watch").doit(status=1)
    assert "error: shot: its process was ended by signal 9\n  hint: " in said
    assert "   good done in" in said


def start_on_terminal(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start doit in `folder` on a terminal of its own; return it and our end of the terminal."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "tasks.engine.main"],
        cwd=folder,
        env={**env, "COLUMNS": "200", "PYTHONPATH": str(CHECKOUT.root)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    return process, ours


def test_on_a_terminal_a_live_line_says_what_runs(tmp_path: Path) -> None:
    body = """
from tasks.util.progress import Progress

def counts(name):
    with Progress("counting", "sheep", 9) as progress:
        time.sleep(0.6)
        progress.advance(7)
        wait_for("seen")
    done(name)

def waits(name):
    wait_for("seen")
    done(name)
"""
    project = Project(tmp_path, body, "counts waits")
    process, ours = start_on_terminal(project.folder)
    said = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says EIO when nobody has the other end any more
            break
        said += piece
        if b"(counting: 7 sheep of 9 sheep)" in said:
            (tmp_path / "seen").touch()
    os.close(ours)
    assert process.wait() == 0
    text = said.decode()
    assert "\r\033[Krunning: " in text
    # The line is gone before anything else is written.
    for line in text.split("\r\n"):
        assert "running: " not in line.rpartition("\r\033[K")[2]
    assert "counting: 7 sheep in " in text


def test_sigterm_is_as_ctrl_c(tmp_path: Path, marker: str) -> None:
    _, process = cut_project(tmp_path, marker)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert parts(tmp_path) == []
    soon(lambda: not processes(marker))


@pytest.mark.parametrize("words", ["-n 4", "-n 1", "-v 0", "-r zero", "-r json"])
def test_a_run_that_waits_for_another_says_so_at_once(tmp_path: Path, marker: str, words: str) -> None:
    project, first = cut_project(tmp_path, marker)
    second = project.start(*words.split(), "last")
    assert second.stdout is not None
    line = second.stdout.readline()
    assert first.poll() is None, first.communicate()[0]
    assert line == f"waiting for another run here (process {first.pid})\n"
    assert second.poll() is None
    said = interrupt(second)
    assert "everything is up to date" not in said, "it has not looked at all tasks"
    interrupt(first)


def test_on_a_terminal_a_run_that_waits_for_another_says_so(tmp_path: Path, marker: str) -> None:
    project, first = cut_project(tmp_path, marker)
    second, ours = start_on_terminal(project.folder)
    said = b""
    while b"\n" not in said:
        said += os.read(ours, 4096)
    assert said == f"waiting for another run here (process {first.pid})\r\n".encode()
    os.killpg(second.pid, signal.SIGINT)
    second.wait(60)
    os.close(ours)
    interrupt(first)
