# SPDX-License-Identifier: MIT
"""Shared by the tools tier: where extensions are built."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tests.support.workshop import Workshop, make_workshop


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter.

    pytest closes its own to all but their owner whenever one starts, so a test that opens them for
    a while fails beside another test that starts pytest.
    """
    with tempfile.TemporaryDirectory(prefix="tcbuild-open-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def workshop(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workshop:
    """With a base root that has libc and ld.so, and /opt as Tiny Core has it."""
    return make_workshop(make_settings, tmp_path, monkeypatch)
