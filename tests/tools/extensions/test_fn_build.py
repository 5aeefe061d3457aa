# SPDX-License-Identifier: MIT
"""The folder that `fn-build --new` makes (tests/support/services.py); tests/vm/test_faasd.py builds it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.services import BUSYBOX, Machine

FN_BUILD = "usr/local/bin/fn-build"
SHARE = "usr/local/share/faasd"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "root")
    for name in ("template/Dockerfile", "template/handler"):
        made.script(f"{SHARE}/{name}")
    watchdog = made.root / SHARE / "fwatchdog"
    watchdog.write_text("watchdog")
    watchdog.chmod(0o755)
    made.script(FN_BUILD)
    script = made.root / FN_BUILD
    script.write_text(script.read_text().replace("PATH=", "id() { echo 0; }\nPATH=", 1))
    return made


def make_new(machine: Machine, *words: str) -> str:
    """Run `fn-build --new`, which ends where faasd would be asked; return what it said."""
    done = subprocess.run(
        [BUSYBOX, "ash", machine.root / FN_BUILD, "--new", *words],
        cwd=machine.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["hello", "hello/", "a b/c"])
def test_a_new_folder_is_made_whole(machine: Machine, folder: str) -> None:
    assert "faasd does not run" in make_new(machine, "hello", folder)
    made = machine.root / folder
    assert {path.name for path in made.iterdir()} == {"Dockerfile", "handler", "root"}
    assert made.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in made.parent.iterdir() if path.name.startswith(f"{made.name}.")] == []


def test_no_other_folder_of_the_users_is_touched(machine: Machine) -> None:
    """Also if the new one cannot be made, and is taken away again."""
    (machine.root / "hello.new").mkdir()
    (machine.root / "hello.new/work").write_text("mine")
    (machine.root / SHARE / "template/handler").unlink()
    assert "hello could not be made" in make_new(machine, "hello")
    assert (machine.root / "hello.new/work").read_text() == "mine"
    assert not (machine.root / "hello").exists()
