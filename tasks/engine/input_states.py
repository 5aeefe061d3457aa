# SPDX-License-Identifier: MIT
"""The states of a task's inputs: taken before its actions, recorded if they are the same after them.

doit reads the inputs after the actions.  An input that is edited while its task runs would then be
recorded with its new content, although the task read the old one.  Bazel, too, compares an input
before and after an action.

A state is a stamp and an MD5.  The stamp is what `git` keeps of a file in its index: size, mtime,
ctime and inode.  The ctime is set by the kernel at every write, chmod and rename, and no program can
set it.  So a file with an equal stamp is not read again, and `touch -r` or `cp -p` hide no edit.
A file system counts time in steps: an edit in the same step as the stamp would leave it equal.
Such a fresh stamp is not recorded, and the file is read at each check (git: "racy").
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doit.dependency import FileChangedChecker, get_file_md5

from tasks.util.files import Stamp, is_settled, stamp


@dataclass(frozen=True)
class State:
    """An input.  settled: whether a later edit must change the stamp."""

    stamp: Stamp
    md5: str
    settled: bool

    @property
    def record(self) -> list[Any]:
        """The state as doit's database keeps it: [size, mtime, ctime, inode, MD5], with zeros if fresh."""
        return [*recorded(self.stamp, self.settled), self.md5]


def recorded(stamp: Stamp, settled: bool) -> Stamp:
    """Return a stamp as records hold it: a fresh one has its size only, so that it equals no other."""
    return stamp if settled else Stamp(stamp.size, 0, 0, 0)


def take(path: str) -> State | None:
    """Return the state of a file; None if it cannot be read."""
    found = stamp(path)  # before the content: a later write then changes it
    if found is None:
        return None
    settled = is_settled(found.ctime)
    try:
        return State(found, _md5(path, found) if settled else get_file_md5(path), settled)
    except OSError:
        return None


@functools.cache
def _md5(path: str, stamp: Stamp) -> str:
    """Return the MD5 of a file with that stamp.  Several tasks of a run may read it."""
    return str(get_file_md5(path))


class InputChecker(FileChangedChecker):  # type: ignore[misc]
    """Tells doit whether an input differs from its recorded state."""

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: Sequence[Any]) -> bool:
        """Tell whether the content of a file is another than that of the record `state`."""
        *known, md5 = state
        now = Stamp.of(file_stat)
        if list(now) == known:
            return False
        return bool(now.size != known[0] or _content(file_path) != md5)

    def get_state(self, dep: str, current_state: Any) -> list[Any]:
        """Return the state of a file as a record.  Raises `FileNotFoundError` if there is none."""
        found = take(dep)
        if found is None:
            raise FileNotFoundError(2, "No such file", dep)
        return found.record


def _content(path: str) -> str:
    found = take(path)
    return found.md5 if found else ""


def changed(before: Mapping[str, State | None], output: Path) -> list[str]:
    """Return the paths of `before` whose files have changed.

    A file outside the folder `output` counts as changed with another stamp, even if its content is
    the same again: the task may have read something else in between.  In `output` only the content
    counts, because tasks themselves write files there again.
    """
    return [path for path, state in before.items() if _has_changed(path, state, output)]


def _has_changed(path: str, before: State | None, output: Path) -> bool:
    if before is None:
        return True
    if stamp(path) == before.stamp and before.settled:
        return False
    now = take(path)
    if now is None or now.md5 != before.md5:
        return True
    return now.stamp != before.stamp and not is_made(path, output)


def is_made(path: str, output: Path) -> bool:
    """Tell whether a file lies in the folder `output`, where tasks write."""
    return Path(path).absolute().is_relative_to(output)
