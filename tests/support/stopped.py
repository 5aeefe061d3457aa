# SPDX-License-Identifier: MIT
"""Runs that are stopped in their middle, with all programs they have started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return the processes that `pid` has started, and theirs."""
    found = [pid]
    for one in found:
        for path in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, path.read_text().split())
    return found[1:]


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    """Stop a process and all that it has started for a while."""
    halted: list[int] = []
    while more := [pid for pid in (process.pid, *descendants(process.pid)) if pid not in halted]:
        for pid in more:  # those that a process started before it was stopped are found the next time
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        halted += more
    try:
        yield
    finally:
        for pid in reversed(halted):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def has_started(process: subprocess.Popen[str], name: str) -> bool:
    """Wait until a process has started the program `name`; false if it ends before."""
    while process.poll() is None:
        for pid in descendants(process.pid):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    return True
        time.sleep(0.001)
    return False
