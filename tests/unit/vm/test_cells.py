# SPDX-License-Identifier: MIT
"""Cells run side by side within their slots, and stand in one table."""

from __future__ import annotations

import threading
import time

import pytest

from tasks.vm import cells
from tasks.vm.cells import Started
from tasks.vm.matrix import Cell
from tasks.vm.results import Result, whole


def cell(memory: int, cpus: int = 1) -> Cell:
    return Cell("apt", "bios", "cd", memory, cpus, "none")


def test_guests_take_a_slot_for_each_processor() -> None:
    """A guest with more processors than there are slots takes all of them."""
    lock, running, most = threading.Lock(), [0], [0]

    def boot(one: Cell, _: Started) -> Result:
        with lock:
            running[0] += min(one.cpus, 3)
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= min(one.cpus, 3)
        return Result(one.name, "passed")

    many = [cell(number, cpus) for number, cpus in enumerate((1, 1, 1, 2, 2, 8, 1, 1), 1)]
    told: list[Result] = []
    results = cells.side_by_side(many, 3, boot, told.append)
    assert set(results) == set(many)
    assert sorted(result.name for result in told) == sorted(one.name for one in many)
    assert most[0] == 3


def test_an_error_in_one_thread_ends_the_run() -> None:
    def boot(one: Cell, _: Started) -> Result:
        if one.memory == 2:
            raise OSError("no room")
        return Result(one.name, "passed")

    with pytest.raises(OSError, match="no room"):
        cells.side_by_side([cell(1), cell(2), cell(3)], 1, boot, lambda _: None)


def test_the_table_has_a_line_for_each_cell_and_counts_them() -> None:
    one, two, three = cell(256), cell(512, 2), Cell("quick", "direct", "", 1024, 1, "e1000")
    bad = Result("up", "failed", 1.0, "no prompt within 240 s")
    results = {
        one: whole(one.name, [Result("up", "passed", 3.0)], 20.04),
        two: whole(two.name, [Result("x", "passed"), bad], 241.0),
        three: Result(three.name, "skipped", message="e1000: the kernel has no CONFIG_E1000"),
    }
    lines = cells.table([one, two, three], results)
    assert [" ".join(line.split()) for line in lines] == [
        "profile firmware media MiB CPUs devices result seconds",
        "apt bios cd 256 1 none passed 20.0",
        "apt bios cd 512 2 none FAILED 241.0 up: no prompt within 240 s",
        "quick direct - 1024 1 e1000 no driver - e1000: the kernel has no CONFIG_E1000",
        "3 cells: 1 passed, 1 failed, 1 without a driver",
    ]
