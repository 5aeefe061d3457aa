# SPDX-License-Identifier: MIT
"""Shared by the tools tier: where extensions are built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tests.support.workshop import Workshop, make_workshop


@pytest.fixture
def workshop(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workshop:
    """With a base root that has libc and ld.so, and /opt as Tiny Core has it."""
    return make_workshop(make_settings, tmp_path, monkeypatch)
