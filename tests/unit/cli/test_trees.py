# SPDX-License-Identifier: MIT
"""Trees of the command line and of $TCBUILD_TREE, what they have, and what clashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.cli import commands, trees
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The caller's folder, with the trees `one` and `two`."""
    monkeypatch.setattr(CHECKOUT, "trees", ())
    monkeypatch.setenv("TCBUILD_CWD", str(tmp_path))
    for name in ("one", "two"):
        add(tmp_path / name / "kconfig/qemu.config")
        add(tmp_path / name / "extensions/hello/recipe.toml")
    add(tmp_path / "one/profiles/mine.toml")
    add(tmp_path / "one/profiles/mine.lock.toml")
    add(tmp_path / "one/rootfs/files/etc/hut.conf")
    return tmp_path


def add(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def used() -> list[Path]:
    return list(CHECKOUT.trees)


def test_trees_are_used_in_their_order_each_once(folder: Path) -> None:
    trees.use(["one", str(folder / "two"), "two/../one"])
    assert used() == [folder / "two", folder / "one"]
    trees.use([])
    assert used() == []


def test_the_variable_counts_if_the_command_line_names_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCBUILD_TREE", f"{folder}/one:two")
    trees.use([])
    assert used() == [folder / "one", folder / "two"]
    trees.use(["two"])
    assert used() == [folder / "two"]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("none", "there is no such folder"),
        ("", "there is no such folder"),
        ("one/profiles/mine.toml", "there is no such folder"),
        ("one/extensions", "has none of profiles/, extensions/"),
        (str(CHECKOUT.root), "this is tcbuild itself"),
    ],
)
def test_what_is_no_tree_is_refused(word: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        trees.use([word])


def test_a_tree_has_names_and_no_locks(folder: Path) -> None:
    assert list(trees.contents(folder / "one")) == [
        "profiles/mine.toml",
        "extensions/hello",
        "kconfig/qemu.config",
        "rootfs/files/etc/hut.conf",
    ]


def test_clashes_are_told(folder: Path) -> None:
    assert list(trees.clashes()) == []
    one, two = folder / "one", folder / "two"
    trees.use([str(one), str(two)])
    assert list(trees.clashes()) == [
        f"kconfig/qemu.config of {one} is used, not that of {CHECKOUT.root}",
        f"extensions/hello of {two} is used, not that of {one}",
        f"kconfig/qemu.config of {two} is used, not that of {one}",
    ]


def test_a_profile_for_another_tcbuild_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.provenance.materials.git_state", lambda: ("", True, "no git"))
    assert trees.other_tcbuild("") == ""
    assert trees.other_tcbuild("v1") == "is written for tcbuild v1; nobody knows which one this is: no git"


def test_a_wheel_knows_its_commit_and_no_tags(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "wheel.toml").touch()
    monkeypatch.setattr(CHECKOUT, "wheel", folder / "wheel.toml")
    monkeypatch.setattr("tasks.provenance.materials.git_state", lambda: ("0123456789abcdef", False, ""))
    assert trees.other_tcbuild("0123456789abcdef") == trees.other_tcbuild("0123456") == ""
    for pin in ("v1", "0", "123456789"):
        assert trees.other_tcbuild(pin) == f"is written for tcbuild {pin}, and this is 0123456789ab"


def test_a_run_that_a_command_starts_uses_the_trees_of_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`./doit qemu:matrix` builds each profile by one; the caller's folder is not that run's."""
    program = folder / "doit"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "${0%/*}/words"\n')
    program.chmod(0o755)
    monkeypatch.setattr(CHECKOUT, "root", folder)
    trees.use(["one", "two"])
    commands._build({"profile": "quick", "frozen": "1"}, ["iso"])
    words = (folder / "words").read_text().splitlines()
    assert words[-5:] == ["iso", f"tree={folder}/one", f"tree={folder}/two", "profile=quick", "frozen=1"]
