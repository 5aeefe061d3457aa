# SPDX-License-Identifier: MIT
"""What no input may do: raise anything but `UserError`, hang, or write outside its folder."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tasks.util.errors import UserError

SECONDS = 20
"""How much processor time one input may take; a thousand times what most need."""
ASLEEP = 300
"""How long it may take altogether: what else the machine does counts here."""

# Audit events that change the file system: event -> (place of the path, place of the folder it is below).
CHANGES = {
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "os.truncate": ((0, -1),),
    "os.symlink": ((1, 2),),
    "os.link": ((1, 3),),
    "os.rename": ((0, 2), (1, 3)),
}
_allowed: list[Path] = []
_hooked = False


class Hang(Exception):
    """An input took longer than it may."""


class Outside(Exception):
    """An input made a parser write outside its folder."""


def check(parse: Callable[[bytes, Path], object], data: bytes, folder: Path) -> bool:
    """Give `data` to `parse` and return whether it was taken (False: refused by a `UserError`).

    folder: the only one that may be written to.  Raises what the parser must not raise,
    `Hang` and `Outside` among it, and `AssertionError` if the refusal is not one line.
    """
    with _no_hang(), _only_in(folder):
        try:
            parse(data, folder)
        except UserError as error:
            assert error.message.strip(), "a refusal says why"
            assert "\n" not in error.message, f"the message of a refusal is one line: {error.message!r}"
            return False
    return True


@contextmanager
def _no_hang() -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise Hang(f"no answer after {SECONDS} s of work, or {ASLEEP} s in all")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, ASLEEP)}
    before = {number: signal.signal(number, late) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@contextmanager
def _only_in(folder: Path) -> Iterator[None]:
    global _hooked
    if not _hooked:
        sys.addaudithook(_watch)
        _hooked = True
    _allowed.append(folder.resolve())
    try:
        yield
    finally:
        _allowed.pop()


def _watch(event: str, args: tuple[Any, ...]) -> None:
    """Refuse a write outside the allowed folder (audit events: Python's library reference)."""
    if not _allowed:
        return
    targets = []
    if event == "open":
        path, mode, flags = args
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) if flags else mode and mode != "r":
            targets = [(path, -1)]
    for place, below in CHANGES.get(event, ()):
        targets.append((args[place], args[below] if below >= 0 else -1))
    for path, folder in targets:
        if not isinstance(path, int) and path not in (None, os.devnull):
            _check_inside(event, os.fsdecode(path), folder)


def _check_inside(event: str, path: str, folder: int) -> None:
    whole = Path(f"/proc/self/fd/{folder}" if folder >= 0 else ".", path)
    # An open follows a link at the end of the path; all others change the link itself.
    parent = Path(os.path.realpath(whole.parent))
    real = Path(os.path.realpath(whole)) if event == "open" else parent / whole.name
    if not real.is_relative_to(_allowed[-1]):
        raise Outside(f"{event} {path!r}")
