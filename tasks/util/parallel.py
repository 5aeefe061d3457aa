"""The same work on many things, a few at a time: what mostly waits, or leaves Python's lock."""

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

    Threads that compute, and do not mostly wait, are asked of the jobserver (`jobserver.tokens`).
    After an exception nothing more is begun; what is under way comes to its end, and
    the exception of the first such item is raised.  Ctrl-C waits for nothing: the
    threads are daemons, which end with the program.
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
