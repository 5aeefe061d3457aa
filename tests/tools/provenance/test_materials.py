# SPDX-License-Identifier: MIT
"""What a manifest says of the checkout, with the real git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.formats.iso_layout import File
from tasks.provenance import manifest, materials
from tasks.provenance.manifest_schema import CheckoutFile, Kernel, Outputs, TreeUsed
from tasks.util.checkout import CHECKOUT
from tests.support import smallimage


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    head = subprocess.run(
        ["git", "-C", CHECKOUT.root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    commit, dirty, reason = materials.git_state()
    assert commit in (head.stdout.strip(), "")
    assert dirty or commit
    assert bool(reason) != bool(commit)
    monkeypatch.setattr(CHECKOUT, "root", tmp_path)
    assert materials.git_state() == ("", True, "the checkout is no git repository, or one without a commit")


def test_a_checkout_that_git_refuses_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """git(1) reads no repository of another user unless safe.directory names it."""
    if os.geteuid():
        pytest.skip("only root can give a repository to another user")
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "of another"
    argv = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=n@invalid"]
    subprocess.run([*argv, "init", "-q", root.name], check=True)
    subprocess.run([*argv, "-C", root.name, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    for path in (root, root / ".git"):
        os.chown(path, 12345, 12345)
    monkeypatch.setattr(CHECKOUT, "root", root)
    command = f"git config --global --add safe.directory '{root}'"
    assert materials.git_state() == ("", True, f"git refuses a checkout of another user ({command})")
    made = smallimage.manifest_of(None)
    file = File("x.iso", 1, "")
    outputs = Outputs((file,), Kernel("6.1", file, file, ()), (), ())
    manifest._write_and_log(tmp_path / "x.iso.manifest.json", replace(made, outputs=outputs))
    assert "x.iso.manifest.json names no commit of tcbuild: git refuses" in capsys.readouterr().out
    subprocess.run(command, shell=True, check=True)
    assert materials.git_state()[1:] == (False, "")


def test_files_of_a_tree_stand_under_it_with_its_commit(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a part of a repository, and only what tcbuild reads of it can change it."""
    tree = tmp_path / "of all/tree"
    (tree / "kconfig").mkdir(parents=True)
    (tree / "kconfig/qemu.config").write_text("CONFIG_PCI=y\n")
    argv = ["git", "-C", str(tree.parent), "-c", "user.name=n", "-c", "user.email=n@invalid"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*argv, *words], check=True)
    monkeypatch.setattr(CHECKOUT, "trees", (tmp_path, tree))
    settings = make_settings()
    (tree / "artifacts").mkdir()
    (tree / "artifacts/new").touch()
    none, (commit, dirty, files) = [(one.commit, one.dirty, one.files) for one in _trees(settings)]
    head = subprocess.run([*argv, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert none == ("", True, ())
    assert (commit, dirty) == (head.strip(), False)
    assert [file.path for file in files] == ["kconfig/qemu.config"]
    assert "kconfig/qemu.config" not in [file.path for file in _checkout_files(settings)]
    (tree / "kconfig/qemu.config").write_text("CONFIG_PCI=m\n")
    assert _trees(settings)[1].dirty


def _trees(settings: Settings) -> tuple[TreeUsed, ...]:
    return materials.trees(settings.paths, settings.profile)


def _checkout_files(settings: Settings) -> tuple[CheckoutFile, ...]:
    return materials.checkout(settings.paths, settings.profile).files
