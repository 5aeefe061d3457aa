# SPDX-License-Identifier: MIT
"""Shared by all tiers: a clean environment, and settings in a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

import hypothesis
import pytest

from tasks.config import compiler, profile
from tasks.config.settings import NO_CACHE, SHARED_VARIABLE, Network, Paths, Settings
from tasks.toolchain import host_match

# How long one example takes depends on what else the machine does.
hypothesis.settings.register_profile("tcbuild", deadline=None)
hypothesis.settings.load_profile("tcbuild")


# The files that take longest come first when several workers share them: how their paths begin.
LONGEST_FIRST = ("vm/", "faults/", "tools/test_rebuild_", "tools/")


# What an earlier test made is no answer to what this one asks.  Fixtures of a module run before
# `clean_environment` does.
os.environ[SHARED_VARIABLE] = NO_CACHE


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files for workers that run side by side: else one could start the longest file last."""
    if hasattr(config, "workerinput"):
        folder = config.rootpath / "tests"
        items.sort(key=lambda item: _rank(item.path.relative_to(folder).as_posix()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape half characters in what a test printed: a worker sends only valid UTF-8."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections
    ]
    return report


def _rank(file: str) -> int:
    starts = (number for number, start in enumerate(LONGEST_FIRST) if file.startswith(start))
    return next(starts, len(LONGEST_FIRST))


WRAPPER = ("TCBUILD_CWD", "TCBUILD_BUILDS", "TCBUILD_TREE")
"""What ./doit tells the run that it starts, and trees: for these tests, and none that a test starts."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the caller may change what a test sees."""
    for name in list(os.environ):
        own = name.startswith("TCBUILD_") and name.removeprefix("TCBUILD_").lower() in compiler.VARIABLES
        shared = name.startswith(("TCBUILD_SHARED", "TCBUILD_CACHE_"))
        if (
            own
            or shared
            or name in WRAPPER
            or name.startswith(("GIT_", "KBUILD", "KCONFIG", "MAKE", "CCACHE", "LC_", "LANG"))
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv(SHARED_VARIABLE, NO_CACHE)


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Return a function that makes settings of a real profile with its output in `tmp_path`."""

    def make(name: str = "apt", *, offline: bool = False, frozen: bool = False) -> Settings:
        loaded = profile.load(name)
        paths = Paths(name, tmp_path / "out", tmp_path / "cache", loaded.arch)
        return Settings(paths, loaded, Network(offline=offline, frozen=frozen))

    return make


@pytest.fixture
def own_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine's programs stand in for a pinned toolchain, whatever their versions are.

    For tests that compare no bytes with those of another machine.
    """
    monkeypatch.setattr(host_match, "difference", lambda root, locked: "")
