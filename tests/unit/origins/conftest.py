# SPDX-License-Identifier: MIT
"""Shared by the tests of what goes over the network."""

from __future__ import annotations

import pytest


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy stands before the test's servers, and progress is shown as on a CI machine."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("CI", "1")
