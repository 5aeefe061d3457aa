# SPDX-License-Identifier: MIT
"""A kernel tree that was built in place, with the kernel's own make: what of it is copied."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.kernel import edited_tree, source_tree
from tasks.origins.sources.file import FileSource
from tasks.util.errors import UserError


def of_tree(settings: Settings, tree: Path) -> Settings:
    kernel = dataclasses.replace(settings.profile.kernel, source=FileSource(path=str(tree)), patches="")
    return dataclasses.replace(settings, profile=dataclasses.replace(settings.profile, kernel=kernel))


def files(tree: Path) -> set[str]:
    found = {
        str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir() or path.is_symlink()
    }
    return {path for path in found if not path.startswith(".tcbuild/")}


def make(tree: Path, *goals: str) -> None:
    subprocess.run(["make", "-s", "-C", tree, "ARCH=x86_64", *goals], check=True, capture_output=True)


def test_what_was_built_in_the_tree_is_not_copied_and_make_takes_the_copy(
    apt_tree: Path, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """The tree's own mrproper knows the products; a file of the user's that only git ignores stays."""
    tree = tmp_path / "mine"
    shutil.copytree(apt_tree, tree, symlinks=True)
    (tree / "firmware").mkdir()
    (tree / "firmware/my.bin").write_bytes(b"mine")
    clean = files(tree)
    (tree / "scripts/basic/fixdep").write_bytes(b"as make makes it before all else")
    (tree / ".config").write_text("CONFIG_64BIT=y\n")
    built = files(tree) - clean
    settings = of_tree(make_settings(), tree)
    source_tree.prepare(settings)
    assert files(settings.paths.linux) == clean
    assert edited_tree.summary(settings.paths.linux).products == ["scripts/basic/fixdep"]
    assert edited_tree.is_current(settings.paths, settings.profile)
    make(settings.paths.linux, f"O={tmp_path / 'build'}", "outputmakefile")  # else "not clean"
    # Built again: no edit.  Cleaned, as make itself would ask for: no edit either.
    (tree / "scripts/basic/fixdep").write_bytes(b"another")
    assert edited_tree.is_current(settings.paths, settings.profile)
    for path in built:
        (tree / path).unlink()
    assert edited_tree.is_current(settings.paths, settings.profile)
    # A source may have the name of a former product.
    (tree / "scripts/basic/fixdep").write_text("mine")
    edited_tree.SEEN.clear()  # as a new run
    source_tree.prepare(settings)
    assert files(settings.paths.linux) == clean | {"scripts/basic/fixdep"}


def test_a_tree_whose_make_fails_is_named(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    """The user's own folder, not the copy."""
    for name, text in {
        "Makefile": "mrproper: ; @echo cannot; false\n",
        "Kconfig": "",
        "arch/Kconfig": "",
        ".config": "",
    }.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    settings = of_tree(make_settings(), tmp_path / "mine")
    with pytest.raises(UserError) as caught:
        source_tree.prepare(settings)
    why = "it was built in place, and make mrproper fails in a copy"
    assert caught.value.message == f"the kernel tree {tmp_path / 'mine'} cannot be used: {why}"
    assert caught.value.hint == f"make -C {tmp_path / 'mine'} mrproper"
    assert not settings.paths.linux.exists()
    (tmp_path / "mine/.config").unlink()
    source_tree.prepare(settings)
    assert files(settings.paths.linux) == {"Makefile", "Kconfig", "arch/Kconfig"}
