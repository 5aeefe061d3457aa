# SPDX-License-Identifier: MIT
"""Where the checkout and the cache folder are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT, cache_folder


def test_the_checkout_holds_dodo() -> None:
    assert (CHECKOUT.root / "dodo.py").is_file()


def test_the_first_variable_that_is_set_names_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TCBUILD_CACHE", raising=False)
    assert cache_folder() == Path("/home/somebody/.cache/tcbuild")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/tcbuild")
    monkeypatch.setenv("TCBUILD_CACHE", "mine")
    assert cache_folder() == Path.cwd() / "mine"


def test_without_a_home_to_write_to_the_cache_is_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "TCBUILD_CACHE"):
        monkeypatch.delenv(name, raising=False)
    below = CHECKOUT.artifacts / ".cache"

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    with monkeypatch.context() as patch:
        patch.setattr("pwd.getpwuid", nobody)  # HOME is unset, and the user has no name
        assert cache_folder() == below
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/tcbuild"
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert cache_folder() == below
    monkeypatch.setenv("TCBUILD_CACHE", "/warm")  # what is named is taken, also to read alone
    assert cache_folder() == Path("/warm")
