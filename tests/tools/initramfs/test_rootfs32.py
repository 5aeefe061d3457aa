# SPDX-License-Identifier: MIT
"""The root and the extensions of profile apt32: i386 packages alone, and the same rules as for x86-64."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tasks.cli import variables
from tasks.config.settings import Settings
from tasks.extensions.build import base_root
from tasks.formats import elf
from tasks.formats.squashfs import squashfs_members
from tasks.image import mirror
from tasks.util.checkout import CHECKOUT
from tests.support.built import doit
from tests.support.settings import both


@pytest.fixture(scope="module")
def small() -> Settings:
    """The root of profile apt32 and its extension attr, built by the command a person uses."""
    done = doit(CHECKOUT.root, "tcz", "profile=apt32")
    assert done.status == 0, done.output
    return variables.resolve({"profile": "apt32"}, CHECKOUT.root / "artifacts")


def machines(contents: dict[str, bytes]) -> Counter[tuple[int, str]]:
    return Counter(
        elf.dynamic(data, name).kind for name, data in contents.items() if data.startswith(elf.MAGIC)
    )


def test_every_program_of_the_root_is_for_32_bit_pcs(small: Settings) -> None:
    assert small.paths.rootfs.name == "rootfs.gz"
    root = base_root(*both(small))
    found = machines({name: node.data for name, node in root.members().items()})
    assert set(found) == {(32, "EM_386")}
    assert found.total() > 50


def test_the_root_asks_mirrors_for_extensions_of_its_own_kind(small: Settings) -> None:
    _, folder = mirror.release_of(base_root(*both(small)), small.profile.architecture)
    assert folder.endswith(".x/x86/tcz")


def test_an_extension_is_made_of_packages_of_the_same_kind(small: Settings) -> None:
    found = machines({one.name: one.data for one in squashfs_members(small.paths.tcz / "attr.tcz")})
    assert set(found) == {(32, "EM_386")}


def test_ld_so_is_where_programs_ask_for_it(small: Settings) -> None:
    root = base_root(*both(small))
    shell = root.find("bin/sh", follow=True)
    assert shell is not None
    wanted = elf.dynamic(shell.data, "bin/sh").interpreter
    assert wanted == f"/{small.profile.architecture.loader}"
    assert root.find(str(Path(wanted).relative_to("/")), follow=True) is not None
