# SPDX-License-Identifier: MIT
"""Kernel modules as an origin: their keys, and what is built of which source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.origins.kinds.base import Resources
from tasks.origins.kinds.compiled import CompiledOrigin
from tasks.origins.kinds.module import ModuleOrigin
from tasks.origins.source_trees import FolderTree, GitTree
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError


def module(**more: Any) -> ModuleOrigin:
    values: dict[str, Any] = {"version": "1.2", "source": FolderTree(path="src")} | more
    return ModuleOrigin(**values)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"into": "usr"}, "into: modules go to where depmod looks"),
        ({"make": ("all",)}, "make: expected NAME=VALUE"),
        ({"make": ("M=/tmp",)}, "make: expected NAME=VALUE"),
        ({"make": ("CC=clang",)}, "make: expected NAME=VALUE"),
        ({"subfolder": "../other"}, "subfolder: expected a path below the source"),
        ({"subfolder": "/usr"}, "subfolder: expected a path below the source"),
    ],
)
def test_what_a_module_may_not_say(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        module(**more)


def test_only_a_folder_is_not_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    fetched = module(source=GitTree(url="https://h/a.git", commit="1" * 40))
    assert isinstance(fetched, CompiledOrigin)
    assert (fetched.is_locked, fetched.source_folder()) == (True, None)
    assert (module().is_locked, module().source_folder()) == (False, tmp_path / "src")
    assert module().log_names() == ("module-src",)


def test_the_subfolder_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    (tmp_path / "src/driver").mkdir(parents=True)
    (tmp_path / "src/driver/Makefile").write_text("obj-m := a.o\n")
    built: list[tuple[str, Sequence[str]]] = []

    def modules(source: Path, make: Sequence[str], log: Path, into: Path) -> None:
        built.append(((source / "Makefile").read_text(), make))
        (into / "usr").mkdir(parents=True)

    resources = Resources(tmp_path, True, tmp_path, lambda names: {}, lambda name: [], modules=modules)
    origin = module(subfolder="driver", make=("CONFIG_A=m",))
    found = [(label, path.is_dir()) for label, path in origin.unpack(resources, (), tmp_path / "scratch")]
    assert found == [("src", True)]
    assert built == [("obj-m := a.o\n", ("CONFIG_A=m",))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch", "src"]
    with pytest.raises(UserError, match="src has no folder other"):
        list(module(subfolder="other").unpack(resources, (), tmp_path / "more"))
