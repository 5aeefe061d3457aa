"""Run the project's own tests: pytest's output as it is, its closing line last."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from tasks.errors import UserError
from tasks.run import spawn


def pytest(*paths: str) -> None:
    """Run pytest on `paths` below the checkout.  Raises `UserError` if a test fails."""
    _run(paths, {})


def fuzz(inputs: int) -> None:
    """Give every parser damaged input, `inputs` in all.  Raises `UserError` if one does not bear it."""
    if inputs < 1:
        raise UserError(f"--inputs={inputs}: expected at least 1")
    # Half of it damaged blindly, half led by coverage.
    _run(["tests/fuzz", "-rP", "--show-capture=stdout"], {"TCBUILD_FUZZ_INPUTS": str(max(1, inputs // 2))})


def _run(paths: Sequence[str], more: Mapping[str, str]) -> None:
    # The tests make fresh clones and set them up: they need the caller's pip settings.
    command = [sys.executable, "-m", "pytest", *paths]
    status = spawn(command, pipes=False, env={**os.environ, **more}).wait()
    if status != 0:
        raise UserError("some tests failed" if status == 1 else f"pytest ended with exit status {status}")
