# SPDX-License-Identifier: MIT
"""Tasks as doit has them, for tests of what reads a list of tasks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def node(name: str, targets: tuple[str, ...] = (), deps: tuple[str, ...] = (), **more: Any) -> Any:
    """A task as doit has it, as far as the graph looks."""
    facts: dict[str, Any] = {
        "file_dep": set(deps),
        "task_dep": [],
        "subtask_of": None,
        "doc": "",
        "params": [],
    }
    return SimpleNamespace(name=name, targets=list(targets), **{**facts, **more})
