# SPDX-License-Identifier: MIT
"""Real makes under one jobserver: as many jobs as it allows, never more, and no token lost for long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.util import jobserver
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.jobserver import Jobserver
from tasks.util.process import run
from tests.support.sidebyside import Project

# A task each: a Makefile with six recipes, the second half of them in a make of their own.
MAKES = """
MAKEFILE = '''
all: $(addprefix a,1 2 3) inner
inner:
\\t$(MAKE) -f Makefile-NAME $(addprefix b,1 2 3)
a% b%:
\\t@PYTHON -c "import dodo; dodo.job()"
'''

def job():
    "What a recipe does: wait until as many jobs run as may, once."
    running(1, wanted=jobserver.slots())
    wait_for("reached")
    time.sleep(0.05)
    running(-1)

def make(name):
    text = MAKEFILE.replace("NAME", name).replace("PYTHON", f"SLOTS={jobserver.slots()} {sys.executable} -B")
    Path(f"Makefile-{name}").write_text(text)
    run(["make", "-f", f"Makefile-{name}"], log=Path(f"log-{name}"), jobs=jobserver.slots())
    done(name)
one = two = three = make
"""


@pytest.mark.parametrize("slots", [2, 4, 5])
def test_three_makes_side_by_side_run_as_many_jobs_as_there_are_slots(slots: int, tmp_path: Path) -> None:
    project = Project(tmp_path, MAKES, "one two three")
    project.doit(env={"SLOTS": str(slots)})
    assert project.most() == slots
    for name in ("one", "two", "three"):
        log = (tmp_path / f"log-{name}").read_text()
        assert f"env MAKEFLAGS=-j{slots} " in log, "the command to copy works without a jobserver"
        assert "jobserver unavailable" not in log
        assert "warning" not in log


def test_all_take_part_in_the_jobserver_of_a_make_that_started_us(tmp_path: Path) -> None:
    project = Project(tmp_path, MAKES, "one two three")
    # A file a job of the outer make's own counts as one, too.
    (tmp_path / "Makefile").write_text(
        f"all: us other\nus:\n\t+@{sys.executable} -B -m tasks.engine.main\n"
        f'other:\n\t@{sys.executable} -B -c "import dodo; dodo.job()"\n'
    )
    env = {**os.environ, "SLOTS": "3", "CI": "1", "PYTHONPATH": str(CHECKOUT.root)}
    outer = ["make", "-s", "-j3"]
    done = subprocess.run(outer, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "last done in" in done.stdout
    assert project.most() == 3


def test_without_a_plus_the_jobserver_of_make_is_out_of_reach(tmp_path: Path) -> None:
    say = "from tasks.util import jobserver; print(jobserver.current().own, jobserver.slots())"
    (tmp_path / "Makefile").write_text(
        f"far:\n\t{sys.executable} -c '{say}'\nnear:\n\t+{sys.executable} -c '{say}'\n"
    )
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT.root)}
    for goal, expected in (("far", f"True {len(os.sched_getaffinity(0))}\n"), ("near", "False 7\n")):
        command = ["make", "-s", "-j7", goal]
        said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        assert said.stdout == expected


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobserver]:
    """A jobserver of this process with three tokens, and a Makefile that uses them all."""
    monkeypatch.setattr(jobserver, "_current", jobserver.create(4))
    yield jobserver.current()
    jobserver.current().close()


MAKEFILE = """
all: 1 2 3 4
1 2 3 4:
\t@echo running; {does}
"""


class Stop(Exception):
    pass


def make(folder: Path, does: str, at_four: str = "") -> None:
    """Run four jobs; when all four run, signal make (`kill`) or stop it as Ctrl-C does (`stop`)."""
    (folder / "Makefile").write_text(MAKEFILE.format(does=does))
    lines: list[str] = []

    def look(line: str) -> None:
        lines.append(line)
        if lines.count("running") == 4 and at_four == "stop":
            raise Stop
        if lines.count("running") == 4 and at_four == "kill":
            parent = next(int(word.split("=")[1]) for word in lines if word.startswith("make="))
            os.killpg(parent, signal.SIGKILL)

    run(["make"], cwd=folder, log=folder / "log", on_line=look, jobs=4)


def test_tokens_are_back_after_success(server: Jobserver, tmp_path: Path) -> None:
    make(tmp_path, "sleep 0.05")
    assert server.free() == 3


def test_tokens_are_back_after_a_failure(server: Jobserver, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make failed with exit status 2"):
        make(tmp_path, "test $@ != 3")
    assert server.free() == 3


def test_tokens_are_back_after_an_interrupt(server: Jobserver, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        make(tmp_path, "sleep 60", at_four="stop")
    assert server.free() == 3


def test_tokens_of_a_make_that_is_shot_are_made_up_for(server: Jobserver, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make was ended by signal 9"):
        make(tmp_path, "echo make=$$PPID; sleep 60", at_four="kill")
    assert server.free() < 3, "nobody gave them back"
    jobserver.renew()
    assert jobserver.current().free() == 3
    make(tmp_path, "sleep 0.05")
    assert jobserver.current().free() == 3
