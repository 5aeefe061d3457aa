"""Run the project's own tests: pytest's output as it is, its closing line last."""

from __future__ import annotations

import os
import sys

from tasks.errors import UserError
from tasks.run import spawn


def pytest(*paths: str) -> None:
    """Run pytest on `paths` below the checkout.  Raises `UserError` if a test fails."""
    # The tests make fresh clones and set them up: they need the caller's pip settings.
    command = [sys.executable, "-m", "pytest", *paths]
    status = spawn(command, pipes=False, env=os.environ).wait()
    if status != 0:
        raise UserError("some tests failed" if status == 1 else f"pytest ended with exit status {status}")
