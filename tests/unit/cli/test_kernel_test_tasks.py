# SPDX-License-Identifier: MIT
"""The tasks of the kernel's own tests; tests/vm/test_kselftest.py and test_kunit.py run them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from tasks.cli import kernel_test_tasks
from tasks.config.profile import load
from tasks.config.settings import Settings
from tasks.engine.task import Task
from tasks.kernel import kunit
from tasks.util.checkout import CHECKOUT
from tasks.vm import kselftest
from tasks.vm import kunit as vm_kunit
from tests.support.settings import with_values


def declared(settings: Settings) -> dict[str, Task]:
    made = kernel_test_tasks.declared(settings, [], ["tree"], "gcc")
    return {task["basename"]: task for task in made}


def test_the_second_kernel_depends_on_its_own_configuration(make_settings: Callable[..., Settings]) -> None:
    settings = with_values(make_settings(), profile=load("apt"))
    tasks = declared(settings)
    assert list(tasks) == ["kernel:kunit", "kselftest", "kunit"]
    made = tasks["kernel:kunit"]
    base = str(settings.paths.config.with_name("base.config"))
    assert {"tree", base, str(CHECKOUT.kconfig / "kunit.config")} <= set(made["file_dep"])
    assert str(CHECKOUT.kconfig / "qemu.config") in made["file_dep"]
    assert made["targets"] == tasks["kunit"]["file_dep"] == [str(kunit.paths_of(settings.paths).vmlinuz)]


def test_a_profile_without_source_is_told_before_anything_is_built(
    make_settings: Callable[..., Settings],
) -> None:
    tasks = declared(with_values(make_settings(), profile=load("quick")))
    assert list(tasks) == ["kselftest", "kunit"]
    for task in tasks.values():
        assert not task["file_dep"]
        ((function, arguments),) = task["actions"]
        said = str(function(*arguments, [], timeout=0))
        assert "the kernel's source is needed, and the profile takes a kernel that others built" in said


@pytest.mark.parametrize(("name", "function"), [("kselftest", kselftest.asked), ("kunit", vm_kunit.asked)])
def test_the_options_are_those_of_the_function(
    make_settings: Callable[..., Settings], name: str, function: Callable[..., None]
) -> None:
    task = declared(with_values(make_settings(), profile=load("apt")))[name]
    taken = [*task["actions"][-1][1], task["pos_arg"], *(option["name"] for option in task["params"])]
    assert len(taken) == len(inspect.signature(function).parameters)
    assert {option["name"] for option in task["params"]} < set(inspect.signature(function).parameters)
    assert task["pos_arg"] in inspect.signature(function).parameters
