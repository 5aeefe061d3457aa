"""Whether what a task has made is still as it made it.

doit looks at the content of what a task reads, but only at the existence of what it wrote:
an ISO with a flipped byte would be up to date for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.util.files import sha256_file

KEY = "made"
Record = tuple[int, int, str]
"""Size in bytes, mtime in nanoseconds, sha256."""


class UnchangedTargets:
    """An `uptodate` check: false if a target differs from what the task's last success left.

    Sizes and times are looked at; only a file that differs in these is read.
    folders: all files in them count as targets.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.folders = folders

    def __call__(self, task: Any, values: Mapping[str, Any]) -> bool:
        """Tell doit whether the targets of `task` are what it made."""
        task.value_savers.append(lambda: {KEY: file_records(self._files(task))})
        return next(self.changed_files(task, values), None) is None

    def changed_files(self, task: Any, before: Mapping[str, Any]) -> Iterator[str]:
        """Yield the files that are not as the last success left them; before: the task's saved values.

        What nothing is known of does not count.
        """
        made: Mapping[str, Sequence[Any]] = before.get(KEY) or {}
        for path in self._files(task):
            if path in made and os.path.lexists(path) and not _is_unchanged(path, made[path]):
                yield path
        for path in made.keys() - set(task.targets):  # doit itself misses targets
            if not os.path.lexists(path):
                yield path

    def _files(self, task: Any) -> list[str]:
        inside = (path for folder in self.folders for path in folder.rglob("*"))
        return [*task.targets, *sorted(str(path) for path in inside if path.is_file())]


def file_records(paths: Iterable[str]) -> dict[str, Record]:
    """Return what is to be remembered of files; those that do not exist are left out."""
    made = {}
    for path in paths:
        with suppress(OSError):
            status = os.stat(path)
            made[path] = (status.st_size, status.st_mtime_ns, sha256_file(Path(path)))
    return made


def _is_unchanged(path: str, made: Sequence[Any]) -> bool:
    try:
        status = os.stat(path)
        if status.st_size != int(made[0]):
            return False
        return status.st_mtime_ns == int(made[1]) or sha256_file(Path(path)) == str(made[2])
    except OSError:
        return False
