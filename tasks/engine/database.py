"""What doit remembers of finished tasks, kept task by task, and why a task would run again.

doit writes its database when a run ends.  A run that is killed (out of memory, a CI job's
time limit) would forget all it had finished; here every task's record is on the disk as soon
as the task is done, and gone as soon as it begins again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doit.globals import Globals

from tasks.engine import run_lock

MISSING = "nothing"
_making: set[str] = set()
"""Tasks with targets that run."""


def begin(task: Any) -> None:
    """Forget a task's last success: it is about to write its targets anew.

    Else a run killed in the middle, and inputs put back as they were, would look done.
    A task that makes something waits for other runs in this output folder.
    """
    if task.targets:
        run_lock.hold(Path(Globals.dep_manager.backend.name).with_name(".doit.lock"))
    elif not _making:
        run_lock.release()  # `./doit qemu` may take hours
    if task.targets:
        _making.add(task.name)
    Globals.dep_manager.remove(task.name)
    _flush()


def finish(task: Any) -> None:
    """Put the records of all finished tasks on the disk, that of `task` among them."""
    _making.discard(task.name)
    _flush()


def _flush() -> None:
    backend = Globals.dep_manager.backend
    backend.dump()
    # `dump` closes the database: doit has no other use for it after its only one.
    type(backend).__init__(backend, backend.name, codec=backend.codec)


class Keys:
    """An `uptodate` check: false if a value differs from that of the task's last success.

    Unlike doit's `config_changed` it keeps the values themselves, not their hash, so that
    the key that changed can be named.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = flat(values)

    def __call__(self, task: Any, values: Mapping[str, Any]) -> bool:
        """Tell doit whether `task` is up to date as far as the values go."""
        task.value_savers.append(lambda: {"keys": self.values})
        return bool(values.get("keys") == self.values)

    def differing(self, before: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        """Return key -> (value at the last success, value now); before: the task's saved values."""
        old: dict[str, str] = before.get("keys") or {}
        names = sorted(old.keys() | self.values.keys())
        pairs = {name: (old.get(name, MISSING), self.values.get(name, MISSING)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Return `values` with dataclasses taken apart: dotted key -> repr of the value.

    The members of a tuple of dataclasses that have a `name` are keyed by it.
    """
    found: dict[str, str] = {}
    for name, value in values.items():
        key = f"{above}{name}"
        if dataclasses.is_dataclass(value):
            found |= flat(_fields(value), f"{key}.")
        elif isinstance(value, tuple) and value and all(hasattr(item, "name") for item in value):
            found[key] = repr([item.name for item in value])  # the order counts
            for item in value:
                found |= flat(_fields(item), f"{key}.{item.name}.")
        else:
            found[key] = repr(value)
    return found


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
