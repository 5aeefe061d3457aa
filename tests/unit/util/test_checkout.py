# SPDX-License-Identifier: MIT
"""Where the checkout and the cache folder are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT, Checkout, cache_folder
from tasks.util.errors import UserError


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


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two trees that are used, in this order."""
    one, two = tmp_path / "one", tmp_path / "two"
    for tree in (one, two):
        (tree / "kconfig").mkdir(parents=True)
        (tree / "kconfig/both.config").touch()
    (one / "kconfig/qemu.config").touch()
    monkeypatch.setattr(CHECKOUT, "trees", (one, two))
    return one, two


def test_names_are_looked_up_in_the_later_tree_first_and_in_the_checkout_last(
    trees: tuple[Path, Path],
) -> None:
    one, two = trees
    assert CHECKOUT.find("kconfig", "both.config") == two / "kconfig/both.config"
    assert CHECKOUT.find("kconfig", "qemu.config") == one / "kconfig/qemu.config"
    assert CHECKOUT.find("kconfig", "ia32.config") == CHECKOUT.kconfig / "ia32.config"
    assert CHECKOUT.find("kconfig", "none.config") == CHECKOUT.kconfig / "none.config"
    assert CHECKOUT.path("kconfig/both.config") == two / "kconfig/both.config"
    assert CHECKOUT.path("doit") == CHECKOUT.root / "doit"
    found = CHECKOUT.found("kconfig", "*.config")
    assert [found["both.config"], found["qemu.config"]] == [
        two / "kconfig/both.config",
        one / "kconfig/qemu.config",
    ]
    assert found["ia32.config"] == CHECKOUT.kconfig / "ia32.config"
    assert list(found) == sorted(found)


def test_results_lie_in_the_last_tree(trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHECKOUT.results == trees[1] / "artifacts"
    monkeypatch.setattr(CHECKOUT, "trees", ())
    assert CHECKOUT.results == CHECKOUT.artifacts


def test_a_file_belongs_to_the_innermost_of_checkout_and_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree may hold the checkout, as a submodule, and the checkout may hold a tree."""
    outer, inner = CHECKOUT.root.parent, CHECKOUT.root / "mine"
    monkeypatch.setattr(CHECKOUT, "trees", (outer, inner))
    files = [outer / "kconfig/a", CHECKOUT.root / "kconfig/a", inner / "kconfig/a"]
    assert [CHECKOUT.root_of(file) for file in files] == ["TREE1", "CHECKOUT", "TREE2"]
    assert {CHECKOUT.label_of(file) for file in files} == {"kconfig/a"}
    names = [CHECKOUT.name_of(file) for file in files]
    assert names == [str(files[0]), "kconfig/a", "mine/kconfig/a"]
    assert (CHECKOUT.root_of(Path("/etc/motd")), CHECKOUT.label_of(Path("/etc/motd"))) == ("", "/etc/motd")


def test_what_a_wheel_installed_has_its_results_beside_and_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrapper names the folder beside; plain `doit` takes that in which it was typed."""
    checkout = Checkout(tmp_path / "checkout")
    checkout.refuse_installed(checkout.profiles / "apt.lock.toml", "a lock")
    assert checkout.artifacts == tmp_path / "checkout/artifacts"
    (tmp_path / "site").mkdir()
    (tmp_path / "site/wheel.toml").touch()
    monkeypatch.delenv("TCBUILD_BESIDE", raising=False)
    for variable in ("TCBUILD_CWD", "TCBUILD_BESIDE"):
        monkeypatch.setenv(variable, f"/{variable}")
        assert Checkout(tmp_path / "site").artifacts == Path(f"/{variable}/artifacts")
    with pytest.raises(UserError, match="a lock is part of what a wheel installed"):
        Checkout(tmp_path / "site").refuse_installed(tmp_path / "site/profiles/apt.lock.toml", "a lock")
