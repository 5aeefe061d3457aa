# SPDX-License-Identifier: MIT
"""The project's own tests, run by a task: what they end with is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cli import testing
from tasks.util.errors import UserError


def test_tests_that_pass_are_no_error_and_those_that_fail_are(tmp_path: Path) -> None:
    path = tmp_path / "test_small.py"
    path.write_text("def test_it():\n    assert True\n")
    testing.pytest(str(path), "-p", "no:cacheprovider")
    path.write_text("def test_it():\n    assert False\n")
    with pytest.raises(UserError, match="some tests failed"):
        testing.pytest(str(path), "-p", "no:cacheprovider")


def test_a_path_without_tests_is_told_by_pytests_exit_status(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="pytest ended with exit status 5"):
        testing.pytest(str(tmp_path / "none"), "-p", "no:cacheprovider")


def test_less_than_one_is_refused() -> None:
    with pytest.raises(UserError, match="--inputs=0: expected at least 1"):
        testing.fuzz(0)
    with pytest.raises(UserError, match="--count=0: expected at least 1"):
        testing.faults(0, "", "")
