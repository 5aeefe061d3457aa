# SPDX-License-Identifier: MIT
"""Where the checkout and the cache folder are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT, cache_folder


def test_the_checkout_holds_dodo() -> None:
    assert (CHECKOUT.root / "dodo.py").is_file()


def test_the_first_variable_that_is_set_names_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TCBUILD_CACHE", raising=False)
    assert cache_folder() == Path("/home/somebody/.cache/tcbuild")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/tcbuild")
    monkeypatch.setenv("TCBUILD_CACHE", "mine")
    assert cache_folder() == Path.cwd() / "mine"
