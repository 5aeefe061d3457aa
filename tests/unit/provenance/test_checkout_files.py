# SPDX-License-Identifier: MIT
"""The files of the checkout that a manifest lists."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tasks.config import profile
from tasks.provenance import checkout_files
from tasks.util.checkout import CHECKOUT

APT = profile.load("apt")


def names(used: profile.Profile, *recipes: str, links: bool = True) -> list[str]:
    return [
        str(path.relative_to(CHECKOUT.root)) for path in checkout_files.of_profile(used, recipes, links=links)
    ]


def test_kernel_root_and_recipes_count_and_locks_do_not() -> None:
    found = names(APT, "attr")
    assert found == sorted(found)
    for name in (
        "kconfig/qemu.config",
        "rootfs/rootfs.toml",
        "rootfs/files/init",
        "extensions/attr/recipe.toml",
    ):
        assert name in found
    assert not [name for name in found if name.endswith("lock.toml") or name.startswith("extensions/nodejs")]


def test_links_are_left_out_where_only_content_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "extensions/attr"
    (folder / "files").mkdir(parents=True)
    (folder / "recipe.toml").write_text((CHECKOUT.extensions / "attr/recipe.toml").read_text())
    (folder / "files/link").symlink_to("nowhere")
    monkeypatch.setattr(CHECKOUT, "trees", (tmp_path,))
    with_links, without = (
        set(checkout_files.of_profile(APT, ["attr"], links=links)) for links in (True, False)
    )
    assert with_links - without == {folder / "files/link"}


def test_of_another_root_only_the_scripts_that_it_gets() -> None:
    foreign = dataclasses.replace(APT, core=dataclasses.replace(APT.core, rootfs=False))
    assert [name for name in names(foreign) if name.startswith("rootfs/")] == [
        *("rootfs/files/sbin/guest-agent", "rootfs/files/sbin/on-consoles")
    ]
