# SPDX-License-Identifier: MIT
"""Guests that run side by side end together."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from tasks.vm import cells
from tasks.vm.cells import Guests, Started
from tasks.vm.guest import Ended, Guest
from tasks.vm.machine import Disk, Machine
from tasks.vm.matrix import Cell
from tasks.vm.results import Result


def guest(tmp_path: Path, number: int) -> Guest:
    """A guest that boots from nothing, and says nothing for ever."""
    blank = tmp_path / "blank.img"
    blank.touch()
    machine = Machine("bios", disks=(Disk(blank, snapshot=True),), memory=64)
    return Guest(machine, tmp_path / f"{number}.log", limit=300)


def test_no_guest_outlives_a_run_that_is_interrupted(tmp_path: Path) -> None:
    """As Ctrl-C does, which comes to the thread that waits."""
    started: list[Guest] = []

    def boot(cell: Cell, start: Started) -> Result:
        if cell.memory == 1:
            while len(started) < 2:
                pass
            return Result(cell.name, "passed")
        with suppress(Ended), start(guest(tmp_path, cell.memory)) as one:
            started.append(one)
            one.expect("never printed", 300)
        return Result(cell.name, "failed")

    def told(_: Result) -> None:
        raise KeyboardInterrupt

    three = [Cell("apt", "bios", "cd", memory, 1, "none") for memory in (1, 2, 3)]
    with pytest.raises(KeyboardInterrupt):
        cells.side_by_side(three, 3, boot, told)
    assert [one._process.poll() for one in started] == [-9, -9]


def test_no_guest_starts_once_all_are_ended(tmp_path: Path) -> None:
    guests = Guests()
    guests.end()
    with pytest.raises(Ended), guests.started(guest(tmp_path, 1)):
        pass
