# SPDX-License-Identifier: MIT
"""The words dodo.py declares tasks with."""

from __future__ import annotations

import pytest
from doit.action import PythonAction
from doit.exceptions import TaskFailed
from doit.task import Task

from tasks.engine import code, task
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


def test_the_last_action_of_a_command_alone_gets_its_options() -> None:
    """doit passes options to each action that has parameters for them, and `do` takes any."""
    made = task.do("util.text", "shortened", ["a", "b"], 1)
    declared = task.command("t", "doc", made, made)
    (function, arguments), last = declared["actions"]
    assert last is made
    assert code.modules_of([(function, arguments)], []) == code.modules_of([made], [])
    doit_action = PythonAction(function, arguments)
    doit_action.task = Task("t", None, params=[{"name": "write", "default": True}])
    doit_action.task.init_options()
    assert doit_action._prepare_kwargs() == {}
    assert doit_action.execute() is None
