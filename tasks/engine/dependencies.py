# SPDX-License-Identifier: MIT
"""doit's dependency manager, which writes the record of a task at once and keeps reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doit.dependency import Dependency

from tasks.engine import explain
from tasks.engine.database import Backend
from tasks.engine.reason import Reason


class Dependencies(Dependency):  # type: ignore[misc]
    """The records of finished tasks, for one run.

    reasons: name of a task that makes files -> why it is not up to date.
    """

    def __init__(self, name: str, checker: type[Any]) -> None:
        super().__init__(Backend, name, checker_cls=checker)
        self.reasons: dict[str, list[Reason]] = {}

    def get_status(self, task: Any, tasks_dict: Mapping[str, Any], get_log: bool = False) -> Any:
        """Return whether a task is up to date, and keep the reasons if it is not.

        doit stops at the first reason.  With `get_log` it makes the same checks and returns all
        reasons.
        """
        status = super().get_status(task, tasks_dict, get_log=True)
        if status.status == "run" and task.targets:
            self.reasons[task.name] = explain.status_reasons(self, task, status)
        return status

    def save_success(self, task: Any, result_hash: str | None = None) -> None:
        """Write to the disk that a task is done."""
        super().save_success(task, result_hash)
        self.backend.flush()

    def remove_success(self, task: Any) -> None:
        """Remove the record of a task's last success from the disk."""
        super().remove_success(task)
        self.backend.flush()
