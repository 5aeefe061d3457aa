# SPDX-License-Identifier: MIT
"""The moment of a screenshot, by the real QEMU with a machine that has nothing to boot."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.vm import screenshot
from tasks.vm.guest import Ended, Guest, TimedOut
from tasks.vm.machine import Machine
from tasks.vm.screenshot import Moment


def test_a_picture_after_a_time(tmp_path: Path) -> None:
    started = time.monotonic()
    with Guest(Machine("bios"), tmp_path / "log") as guest:
        screenshot.shoot(guest, tmp_path / "a.png", Moment(after=1))
    assert time.monotonic() - started >= 1
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_text_that_does_not_come_is_an_error_and_makes_no_file(tmp_path: Path) -> None:
    """It is a text and no pattern."""
    with Guest(Machine("bios"), tmp_path / "log") as guest, pytest.raises(TimedOut, match="within 1 s"):
        screenshot.shoot(guest, tmp_path / "a.png", Moment(when=".*", within=1))
    assert not (tmp_path / "a.png").exists()


def test_the_end_of_qemu_is_an_error(tmp_path: Path) -> None:
    with Guest(Machine("bios"), tmp_path / "log") as guest, pytest.raises(Ended):
        guest.cut_power()
        screenshot.shoot(guest, tmp_path / "a.png", Moment(after=30))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "expected the name of one PNG file"),
        (["a.png", "b.png"], "expected the name of one PNG file"),
        (["a.jpg"], "expected the name of one PNG file"),
        (["no/a.png"], "no/a.png stands in no folder"),
        (["dir.png"], "dir.png is a folder"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(names: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "dir.png").mkdir()
    with pytest.raises(UserError, match=said):
        screenshot.file_of(names, tmp_path)
    assert screenshot.file_of(["a.png"], tmp_path) == tmp_path / "a.png"


@pytest.mark.parametrize(
    "given", [{"after": -1}, {"after": 1_000_001}, {"within": 0}, {"after": 3, "when": "x"}]
)
def test_a_moment_that_cannot_be_meant_is_refused(given: dict[str, int | str]) -> None:
    with pytest.raises(UserError):
        Moment(**given)  # type: ignore[arg-type]


def test_a_mistake_builds_nothing() -> None:
    words = ["./doit", "qemu:screenshot", "a.png", "--after", "3", "--when", "x"]
    done = subprocess.run(words, cwd=CHECKOUT.root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--after and --when exclude each other" in done.stderr
