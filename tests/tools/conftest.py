# SPDX-License-Identifier: MIT
"""Shared by the tools tier: the programs that write, and where extensions are built."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.toolchain import entry
from tests.support.workshop import Workshop, make_workshop

DEBIAN_12 = ("debian12", "debian12-images")


@pytest.fixture(scope="package", autouse=True)
def programs_of_this_machine() -> Iterator[None]:
    """Let this machine's programs stand in for Debian 12's, whatever their versions are.

    A test's own cache folder has no build root.  What a test runs as a command takes the programs that
    it would take without the test.
    """
    needed = entry.root_needed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entry, "root_needed", lambda name: "" if name in DEBIAN_12 else needed(name))
        yield


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
