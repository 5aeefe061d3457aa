# SPDX-License-Identifier: MIT
"""The same work on many things at once."""

from __future__ import annotations

import threading

import pytest

from tasks.util import parallel
from tasks.util.errors import UserError


def test_results_keep_the_order_of_the_items() -> None:
    second = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second.wait(30), "the second item was not begun while the first was under way"
        second.set()
        return number * 2

    assert parallel.each(work, [0, 1, 2, 3, 4], threads=2) == [0, 2, 4, 6, 8]


def test_no_more_than_so_many_at_once() -> None:
    running: set[int] = set()
    most: list[int] = []
    lock, all_three = threading.Lock(), threading.Barrier(3, timeout=30)

    def work(number: int) -> None:
        with lock:
            running.add(number)
            most.append(len(running))
        all_three.wait()
        with lock:
            running.discard(number)

    parallel.each(work, list(range(9)), threads=3)
    assert max(most) == 3


def test_nothing_is_begun_after_an_error() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        raise UserError(f"number {number}")

    with pytest.raises(UserError, match="number 0"):
        parallel.each(work, list(range(100)), threads=1)
    assert begun == [0]


def test_of_two_errors_the_first_items_is_told() -> None:
    both = threading.Barrier(2, timeout=30)

    def work(number: int) -> None:
        both.wait()
        raise UserError(f"number {number}")

    with pytest.raises(UserError, match="number 0"):
        parallel.each(work, [0, 1], threads=2)


def test_nothing_to_do() -> None:
    assert parallel.each(str, []) == []
