# SPDX-License-Identifier: MIT
"""Functions with which `dodo.py` declares tasks."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from tasks.engine.database import SavedValues
from tasks.engine.targets import UnchangedTargets
from tasks.util.errors import UserError, from_os_error

Task = dict[str, Any]
Action = tuple[Callable[..., Any], list[Any]]


def action(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as a doit action whose `UserError` fails the task without a traceback."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
        except UserError as error:
            return TaskFailed(str(error))
        except OSError as error:
            return TaskFailed(str(from_os_error(error)))
        # doit interprets what an action returns, so only a dict or a failure is passed on.
        return result if isinstance(result, dict | TaskFailed) else None

    return wrapper


def do(stage: str, function: str, *args: Any) -> Action:
    """Return a doit action that calls `tasks.STAGE.FUNCTION(*args)`.

    The module is imported when the action runs.  A missing Python package is a `UserError`.
    """

    def call(*call_args: Any, **options: Any) -> Any:
        try:
            module = importlib.import_module(f"tasks.{stage}")
        except ModuleNotFoundError as error:
            if (error.name or "tasks").startswith("tasks"):
                raise
            hint = "start tcbuild by ./doit, which installs what a command needs"
            raise UserError(f"the Python package {error.name} is not installed", hint) from None
        return getattr(module, function)(*call_args, **options)

    call.__name__ = f"{stage}.{function}"
    call.modules = (f"tasks.{stage}",)  # type: ignore[attr-defined]
    return action(call), list(args)


def beside(stage: str, function: str, *args: Any) -> Action:
    """Return an action as `do` does, which makes no target of its task.

    It fetches inputs, whose sha256 a lock names, or it prints or writes something else.  So the
    task does not run again because the code of this action changed.
    """
    made, arguments = do(stage, function, *args)
    made.modules = ()  # type: ignore[attr-defined]
    return made, arguments


def _without_options(made: Action) -> Action:
    """Return an action that gets neither the options nor the names given to its command."""
    function, arguments = made

    def call(*given: Any) -> Any:  # doit passes options to what has a parameter for them
        return function(*given)

    call.__name__ = function.__name__
    call.modules = getattr(function, "modules", ())  # type: ignore[attr-defined]
    return call, arguments


def command(name: str, doc: str, *actions: Action, reads: Sequence[str] = (), **more: Any) -> Task:
    """Return a task without targets.  It runs each time it is named, after the tasks that make `reads`.

    The last action alone gets the options and names that are given to it: those before it make ready.
    """
    return {
        "basename": name,
        "doc": doc,
        "actions": [*map(_without_options, actions[:-1]), *actions[-1:]],
        "file_dep": list(reads),
        "uptodate": [False],
        **more,
    }


def files(*paths: Path) -> list[str]:
    """Return paths as strings, which doit needs."""
    return [str(path) for path in paths]


def changed(*folders: Path, **values: Any) -> list[Any]:
    """Return `uptodate` checks that fail if one of `values` or a target has changed since the last success.

    folders: their files count as targets.
    """
    return [SavedValues(values), UnchangedTargets(folders)]
