# SPDX-License-Identifier: MIT
"""Check whether the targets of a task are unchanged since its last success.

doit compares the content of a task's inputs, but for its targets it checks only that they exist.
So doit takes an ISO with a flipped byte for up to date.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.engine import input_states
from tasks.engine.database import full_path, stored_path
from tasks.util.files import is_settled, sha256_file, stamp

KEY = "made"
Record = tuple[int, int, int, int, str]
"""The stamp (tasks/util/files.py) as tasks/engine/input_states.py records it, and the sha256."""


class UnchangedTargets:
    """An `uptodate` check: false if a target has changed since the task's last success.

    Stamps are compared first.  Only a file whose stamp differs is read: `touch -r` hides no change.
    folders: all files in them count as targets.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.folders = folders

    def __call__(self, task: Any, values: Mapping[str, Any]) -> bool:
        """Tell doit whether the targets of `task` are what it made."""
        task.value_savers.append(lambda: {KEY: file_records(self._files(task))})
        return next(self.changed_files(task, values), None) is None

    def changed_files(self, task: Any, before: Mapping[str, Any]) -> Iterator[str]:
        """Yield the files that have changed since the last success; before: the task's saved values.

        Files without a record are ignored.
        """
        records: Mapping[str, Sequence[Any]] = before.get(KEY) or {}
        made = {full_path(path): record for path, record in records.items()}
        for path in self._files(task):
            if path in made and os.path.lexists(path) and not _is_unchanged(path, made[path]):
                yield path
        for path in made.keys() - set(task.targets):  # doit itself reports missing targets
            if not os.path.lexists(path):
                yield path

    def _files(self, task: Any) -> list[str]:
        inside = (path for folder in self.folders for path in folder.rglob("*"))
        return [*task.targets, *sorted(str(path) for path in inside if path.is_file())]


def file_records(paths: Iterable[str]) -> dict[str, Record]:
    """Return the records of files by `stored_path`; files that do not exist are left out."""
    made = {}
    for path in paths:
        with suppress(OSError):
            found = stamp(path)  # before the content: a later write then changes it
            if found is not None:
                known = input_states.recorded(found, is_settled(found.ctime))
                made[stored_path(path)] = (*known, sha256_file(Path(path)))
    return made


def _is_unchanged(path: str, made: Sequence[Any]) -> bool:
    *known, digest = made  # a record of an older version has no ctime and no inode: the file is read
    now = stamp(path)
    if now is None or now.size != known[0]:
        return False
    try:
        return list(now) == known or sha256_file(Path(path)) == digest
    except OSError:
        return False
