# SPDX-License-Identifier: MIT
"""Call one function for many items in a few threads.

The function should mostly wait, or release Python's global lock.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
THREADS = 4


def each(function: Callable[[T], R], items: Sequence[T], threads: int = THREADS) -> list[R]:
    """Return `function(item)` of all items, in their order.

    If the function computes rather than waits, take `threads` from `jobserver.tokens`.
    After an exception no further item is begun.  The running calls end, and the exception of
    the first failed item is raised.  Ctrl-C does not wait for the threads: they are daemons,
    which end with the program.
    """
    todo = deque(enumerate(items))
    done: queue.SimpleQueue[None] = queue.SimpleQueue()
    errors: dict[int, BaseException] = {}
    results: dict[int, R] = {}

    def work() -> None:
        while todo:
            try:
                index, item = todo.popleft()
            except IndexError:  # another thread took the last one
                break
            try:
                results[index] = function(item)
            except BaseException as error:
                errors[index] = error
                todo.clear()
        done.put(None)

    count = min(threads, len(items))
    for _ in range(count):
        threading.Thread(target=work, daemon=True).start()
    for _ in range(count):
        done.get()
    if errors:
        raise errors[min(errors)]
    return [results[index] for index in range(len(items))]
