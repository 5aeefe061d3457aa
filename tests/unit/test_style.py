# SPDX-License-Identifier: MIT
"""The project's own rules, as tests: linters, types, sizes, pins."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT

PYTHON = sorted(
    [
        CHECKOUT.root / "dodo.py",
        *(CHECKOUT.root / "tasks").rglob("*.py"),
        *(CHECKOUT.root / "tests").rglob("*.py"),
    ]
)
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "--strict", "dodo.py", "tasks", "tests"],
    ],
    ids=["ruff-check", "ruff-format", "mypy"],
)
def test_linters_are_clean(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=CHECKOUT.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(CHECKOUT.root)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


def test_every_locked_input_has_a_sha256() -> None:
    """A lock entry without one would be an input nobody vouches for."""
    for path in (CHECKOUT.root / "profiles").glob("*.lock.toml"):
        for kind, entries in toml_schema.read_toml(path).items():
            if kind not in ("archive", "needs"):  # dates and names; no files
                assert all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in entries)
