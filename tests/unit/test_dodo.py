# SPDX-License-Identifier: MIT
"""The actions of dodo.py: each must fit the function that it calls, because mypy cannot see that."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

import pytest

from tasks.cli import variables
from tasks.util.checkout import CHECKOUT

TREE = ast.parse((CHECKOUT.root / "dodo.py").read_text())
ACTIONS = [
    node
    for node in ast.walk(TREE)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("do", "beside")
]
PARTS = {"S": "settings", "S.paths": "paths", "S.profile": "profile", "S.network": "network"}
"""What dodo.py hands on -> the name of the parameter that it is for."""

TASK_OPTIONS: tuple[Any, ...] = (
    *(variables.FIRMWARE, variables.MEMORY, variables.FORWARD, variables.INPUTS, variables.SSH),
    *variables.FAULTS,
    *variables.HOSTS,
)
OPTIONS = {
    *(option["name"] for option in TASK_OPTIONS),
    *(
        word.value.value
        for word in ast.walk(TREE)
        if isinstance(word, ast.keyword) and word.arg == "pos_arg" and isinstance(word.value, ast.Constant)
    ),
}
"""The names of the parameters that doit fills from the command line."""


# The actions whose code is no input of their task: they make none of its targets.
BESIDE = {
    *("fetch.stage_inputs", "fetch.recipe_inputs", "fetch.toolchain", "image.bootcodes"),
    "kernel.kconfig_diff",
}


def test_an_action_that_makes_a_target_is_declared_by_do() -> None:
    beside = [node for node in ACTIONS if ast.unparse(node.func) == "beside"]
    assert {ast.literal_eval(node.args[0]) for node in beside} == BESIDE


def test_there_are_actions() -> None:
    assert len(ACTIONS) > 40
    assert {"firmware", "count", "names", "wanted"} <= OPTIONS


@pytest.mark.parametrize("action", ACTIONS, ids=ast.unparse)
def test_an_action_fits_its_function(action: ast.Call) -> None:
    module, function = (ast.literal_eval(word) for word in action.args[:2])
    called = getattr(importlib.import_module(f"tasks.{module}"), function)
    parameters = list(inspect.signature(called).parameters.values())
    for given in action.args[2:]:
        parameter = parameters.pop(0)
        text = ast.unparse(given)
        is_star = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        assert is_star == isinstance(given, ast.Starred)
        if text in PARTS or (parameter.name in PARTS.values() and not is_star):
            assert PARTS.get(text) == parameter.name, f"{text} is no {parameter.name}"
    required = {
        one.name
        for one in parameters
        if one.default is inspect.Parameter.empty and one.kind is not inspect.Parameter.VAR_KEYWORD
    }
    assert required <= OPTIONS
