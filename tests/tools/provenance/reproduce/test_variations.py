# SPDX-License-Identifier: MIT
"""The circumstances of the second build."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.provenance.reproduce.variations import Start


def test_python_of_the_tests_is_that_of_the_build() -> None:
    assert Start(Path("x")).python == sys.executable
