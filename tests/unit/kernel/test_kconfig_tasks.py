# SPDX-License-Identifier: MIT
"""The tasks of a configuration: what they read, and that each command has its function."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.config.settings import Settings
from tasks.engine.task import Task, do
from tasks.kernel import kconfig_tasks
from tasks.kernel.kconfig_tasks import QUESTIONS
from tasks.util.errors import UserError


def share(task: Task, **_: Any) -> Task:
    return task


@pytest.fixture
def tasks(make_settings: Callable[..., Settings], tmp_path: Path) -> dict[str, Task]:
    """The tasks of the `apt` profile by name, with one action that prepares."""
    prepare = [do("util.text", "shortened", [], 1)]
    made = kconfig_tasks.declared(make_settings(), [tmp_path / "source"], [], prepare, "gcc", share)
    return {task["basename"]: task for task in made}


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_command_fits_its_function(name: str) -> None:
    """doit gives it the names, and each option by its name."""
    one = QUESTIONS[name]
    function = getattr(importlib.import_module(f"tasks.kernel.{one.module}"), one.function)
    settings, names, *options = inspect.signature(function).parameters.values()
    assert (settings.name, names.name) == ("settings", "names")
    assert [option.name for option in options] == [option["name"] for option in one.options]
    assert [option.default for option in options] == [option["default"] for option in one.options]


def test_commands_run_after_what_they_read_is_made(tasks: dict[str, Task]) -> None:
    assert tasks["kconfig:base"]["targets"][0] in tasks["kconfig"]["file_dep"]
    config, diff = tasks["kconfig"]["targets"]
    assert tasks["kconfig:diff"]["file_dep"] == [diff]
    for name in ("kconfig:report", *QUESTIONS):
        wanted = tasks["kconfig:base"]["targets"] if name == "kconfig:import" else [config]
        assert tasks[name]["file_dep"] == wanted
        assert tasks[name]["uptodate"] == [False]


def test_the_menu_has_the_terminal_and_its_own_programs(tasks: dict[str, Task]) -> None:
    menu = tasks["kconfig:menu"]
    assert menu["io"] == {"capture": False}
    names = [function.__name__ for function, _arguments in menu["actions"]]
    assert names == ["util.text.shortened", "fetch.toolchain.fetch_alone", "kernel.kconfig_menu.menu"]
    assert len(tasks["kconfig:why"]["actions"]) == 2


@pytest.mark.parametrize("name", QUESTIONS)
def test_names_are_refused_before_the_kernel_is_fetched(tasks: dict[str, Task], name: str) -> None:
    with pytest.raises(UserError, match=f"{name} (needs|takes)"):
        tasks[name]["meta"]["check"]([], [])
