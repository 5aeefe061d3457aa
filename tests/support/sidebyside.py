# SPDX-License-Identifier: MIT
"""A folder with a small dodo file, whose tasks run side by side as those of the real one do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.util.checkout import CHECKOUT

# Every task appends to one file, reads `before`, and writes a file of its own name.
HEAD = f"""
import fcntl, os, sys, time
sys.path.insert(0, {str(CHECKOUT.root)!r})
from pathlib import Path
from tasks.util import jobserver
from tasks.engine.task import action
from tasks.util.errors import UserError
from tasks.util.files import atomic_path
from tasks.util.log import logger
from tasks.util.process import run

jobserver.set_slots(int(os.environ.get("SLOTS", "4")))
DOIT_CONFIG = {{"default_tasks": ["last"], "verbosity": 2, "num_process": 8}}

def wait_for(*names):
    "Wait until the files `names` are there; a test that waits in vain fails by it."
    until = time.monotonic() + 60
    while not all(map(os.path.exists, names)):
        assert time.monotonic() < until, names
        time.sleep(0.01)

def running(change, wanted=0):
    "Count a job in or out; note the most there were, and `reached` when there are `wanted`."
    with open("count", "a+") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.seek(0)
        now = sum(map(int, counter.read().split())) + change
        counter.write(f"{{change}}\\n")
        counter.flush()
        with open("most", "a") as most:
            most.write(f"{{now}}\\n")
        if now == wanted:
            Path("reached").touch()

def done(name):
    Path(name).write_text(name)
"""


class Folder:
    """A folder with a dodo file, in which doit runs with the commands of tasks.engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start doit as the leader of a process group of its own, as a shell does."""
        return subprocess.Popen(
            [sys.executable, "-B", "-m", "tasks.engine.main", *words],
            cwd=self.folder,
            env={**os.environ, "CI": "1", "PYTHONPATH": str(CHECKOUT.root), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def doit(self, *words: str, status: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run doit and return what it says."""
        process = self.start(*words, env=env)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == status, said
        assert "Traceback" not in said
        return said

    def ran(self, *words: str) -> list[str]:
        """Run doit and return which tasks it ran, sorted."""
        return sorted(line[3:] for line in self.doit(*words).splitlines() if line.startswith("=> "))


class Project(Folder):
    """The folder; `body` defines functions of one argument, the task's name, by the tasks' names.

    The tasks of `body` are independent, and `last` depends on all of them.
    """

    def __init__(self, folder: Path, body: str, names: str) -> None:
        super().__init__(folder)
        words = names.split()
        tasks = [
            f'\ndef task_{name}():\n    return {{"actions": [(action({name}), ["{name}"])], '
            f'"file_dep": ["dodo.py"], "targets": ["{name}"]}}\n'
            for name in words
        ]
        last = (
            f'\ndef task_last():\n    return {{"actions": [(done, ["last"])], "file_dep": {words!r}, '
            '"targets": ["last"]}\n'
        )
        (folder / "dodo.py").write_text(HEAD + body + "".join(tasks) + last)

    def wait_for(self, *names: str) -> None:
        """Wait until files are there."""
        soon(lambda: all((self.folder / name).exists() for name in names))

    def most(self) -> int:
        """Return how many jobs ran at the same time at most."""
        return max(map(int, (self.folder / "most").read_text().split()))


def soon(true: Callable[[], bool]) -> None:
    """Wait until something is so; fail after a minute."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def processes(marker: str) -> list[int]:
    """Return the processes with `marker` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_bytes().decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has just ended
    return found


def interrupt(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C: all processes of the terminal's foreground group get SIGINT."""
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    return said
