# SPDX-License-Identifier: MIT
"""The words dodo.py declares tasks with."""

from __future__ import annotations

import pytest
from doit.exceptions import TaskFailed

from tasks.engine import task
from tasks.util.errors import UserError


def test_action_turns_user_errors_into_failed_tasks() -> None:
    def failing() -> None:
        raise UserError("broken", "mend it")

    result = task.action(failing)()
    assert isinstance(result, TaskFailed)
    assert result.get_msg().rstrip("\n") == "broken\n  hint: mend it"


def test_action_lets_programming_errors_through() -> None:
    def wrong() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        task.action(wrong)()


def test_action_passes_values_on_and_nothing_else() -> None:
    assert task.action(lambda: {"a": 1})() == {"a": 1}
    assert task.action(lambda: "text")() is None
