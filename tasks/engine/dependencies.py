# SPDX-License-Identifier: MIT
"""doit's dependency manager: it writes the record of a task at once, with the inputs as they were before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from doit.dependency import Dependency

from tasks.engine import explain, input_states
from tasks.engine.code import UnchangedCode
from tasks.engine.database import DEPS, Backend, SavedValues, folder_stamps, saved_values
from tasks.engine.input_states import State
from tasks.engine.reason import Reason
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.files import Stamp, stamp


class Dependencies(Dependency):  # type: ignore[misc]
    """The records of finished tasks, for one run.

    reasons: name of a task -> why it is not up to date.  wait: called before a task that makes files
    is to run; it returns whether another run has made files meanwhile.
    """

    wait: Callable[[], bool] = staticmethod(lambda: False)

    def __init__(self, name: str, checker: type[Any]) -> None:
        super().__init__(Backend, name, checker_cls=checker)
        self.reasons: dict[str, list[Reason]] = {}
        self._output = Path(name).absolute().parent
        self._before: dict[str, dict[str, State | None]] = {}
        self._folders: dict[str, dict[str, Stamp | None]] = {}

    def get_status(self, task: Any, tasks_dict: Mapping[str, Any], get_log: bool = False) -> Any:
        """Return whether a task is up to date, and keep the reasons if it is not.

        doit stops at the first reason.  With `get_log` it makes the same checks and returns all
        reasons.
        """
        status = super().get_status(task, tasks_dict, get_log=True)
        if status.status == "run" and task.targets and self.wait():
            self.backend.read_again()
            status = super().get_status(task, tasks_dict, get_log=True)
        if status.status == "run":
            self.reasons[task.name] = explain.status_reasons(self, task, status)
        return status

    def begin(self, task: Any) -> list[str]:
        """Take the states of the inputs of `task`, and remove the record of its last success from the disk.

        Returns the inputs that have changed since dodo.py was loaded and that loading has read: the
        task stands on what was in them.
        """
        self.remove_success(task)
        self._before[task.name] = {}
        if not _is_recorded(task):
            return []
        self._folders[task.name] = folder_stamps(_saved_values(task))
        self._before[task.name] = {path: input_states.take(path) for path in task.file_dep}
        read = {path: toml_schema.read_stamps.get(path) for path in task.file_dep}
        late = [path for path, known in read.items() if known and known != stamp(path)]
        return [CHECKOUT.name_of(Path(path)) for path in late if not input_states.is_made(path, self._output)]

    def changed_inputs(self, task: Any) -> list[str]:
        """Return the inputs of `task` that have changed since `begin`, by their names in the checkout."""
        found = input_states.changed(self._before.get(task.name, {}), self._output)
        names = {CHECKOUT.name_of(Path(path)) for path in found}
        if task.name in self._folders:
            names.update(name for check in _saved_values(task) for name in check.changed())
            before, now = self._folders[task.name].items(), folder_stamps(_saved_values(task)).items()
            # A folder is told if nothing in it is: something came and went again.
            names = names or {CHECKOUT.name_of(Path(path)) for path, _ in before ^ now}
        for check, _, _ in task.uptodate if task.name in self._before else ():
            if isinstance(check, UnchangedCode):
                names.update(check.edited())
        return sorted(names)

    def save_success(self, task: Any, result_hash: str | None = None) -> None:
        """Write to the disk that a task is done, with the states of its inputs that `begin` took."""
        # doit's checker would read the inputs now.
        inputs, task.file_dep = task.file_dep, set()
        try:
            super().save_success(task, result_hash)
        finally:
            task.file_dep = inputs
        for path, state in self._before.pop(task.name, {}).items():
            if state is not None:
                self._set(task.name, path, state.record)
        self._set(task.name, DEPS, tuple(inputs))
        self.backend.flush()

    def remove_success(self, task: Any) -> None:
        """Remove the record of a task's last success from the disk."""
        super().remove_success(task)
        self.backend.flush()


def _saved_values(task: Any) -> list[SavedValues]:
    return saved_values(check for check, _, _ in task.uptodate)


def _is_recorded(task: Any) -> bool:
    """Tell whether a task can be up to date; if not (`./doit qemu`), no states of its inputs are needed."""
    return all(check is not False for check, _, _ in task.uptodate)
