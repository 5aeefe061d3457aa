# SPDX-License-Identifier: MIT
"""Extensions in the initramfs: dependencies, boot files, /tmp/builtin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.formats.cpio import Member, directory, regular, symlink
from tasks.formats.initramfs_unpacker import RootFs
from tasks.initramfs import embedded
from tasks.util.errors import UserError

RELEASE = "6.12.1-tcbuild"


@pytest.mark.parametrize(
    ("deps", "wanted", "order"),
    [
        ({}, ["a"], ["a"]),
        ({"a": "b.tcz\nc.tcz\n", "b": "c.tcz\n"}, ["a"], ["c", "b", "a"]),
        ({"a": "c.tcz", "b": "c.tcz"}, ["b", "a"], ["c", "b", "a"]),
        ({"a": " b.tcz \n\n"}, ["a"], ["b", "a"]),
        ({"a": "mod-KERNEL.tcz\n"}, ["a"], [f"mod-{RELEASE}", "a"]),
        ({"a": "b.tcz", "b": "a.tcz"}, ["a"], ["b", "a"]),
    ],
)
def test_dependencies_come_first(
    tmp_path: Path, deps: dict[str, str], wanted: list[str], order: list[str]
) -> None:
    for name, text in deps.items():
        (tmp_path / f"{name}.tcz.dep").write_text(text)
    assert embedded.with_dependencies(tmp_path, wanted, RELEASE) == order


MODULES = f"usr/local/lib/modules/{RELEASE}"


@pytest.mark.parametrize(
    ("members", "setup", "newmodules"),
    [
        ([regular("usr/local/tce.installed/a", b"#!/bin/sh", 0o755)], "/usr/local/tce.installed/a\n", False),
        ([regular("usr/local/tce.installed/a", b"", 0o644)], None, False),
        ([symlink("usr/local/tce.installed/a", "../start")], "/usr/local/tce.installed/a\n", False),
        ([directory(MODULES), directory(f"{MODULES}/kernel")], None, False),
        (
            [
                *(directory(MODULES), directory(f"{MODULES}/kernel")),
                regular(f"{MODULES}/kernel/x.ko", b""),
            ],
            None,
            True,
        ),
    ],
)
def test_boot_files_finish_the_installation(
    members: list[Member], setup: str | None, newmodules: bool
) -> None:
    parents = ["usr", "usr/local", "usr/local/tce.installed", "usr/local/lib", "usr/local/lib/modules"]
    root = RootFs()
    root.unpack([*map(directory, parents), regular("usr/local/start", b"#!/bin/sh", 0o755), *members])
    found = {member.name: member for member in embedded.boot_files(root, ["a"], RELEASE)}
    assert ("etc/sysconfig/newmodules" in found) == newmodules
    assert ("tmp/setup.lst" in found) == (setup is not None)
    if setup is not None:
        assert found["tmp/setup.lst"].data.decode() == setup
        assert found["tmp"] == directory("tmp", 0o1777)


def test_setup_list_keeps_the_order() -> None:
    root = RootFs()
    folders = map(directory, ["usr", "usr/local", "usr/local/tce.installed"])
    scripts = [regular(f"usr/local/tce.installed/{name}", b"#!", 0o755) for name in "ab"]
    root.unpack([*folders, *scripts])
    (found,) = [m for m in embedded.boot_files(root, ["b", "a"], RELEASE) if m.data]
    assert found.data == b"/usr/local/tce.installed/b\n/usr/local/tce.installed/a\n"


def test_builtin_holds_what_tce_setup_looks_for(tmp_path: Path) -> None:
    for name in ("b.tcz", "b.tcz.dep", "b.tcz.md5.txt", "b.tcz.info", "a.tcz"):
        (tmp_path / name).write_text(name)
    found = embedded.builtin_members([tmp_path / "b.tcz", tmp_path / "a.tcz"], ["b"])
    assert [(m.name, m.data.decode()) for m in found] == [
        ("tmp", ""),
        ("tmp/builtin", ""),
        ("tmp/builtin/optional", ""),
        ("tmp/builtin/onboot.lst", "b.tcz\n"),
        ("tmp/builtin/optional/a.tcz", "a.tcz"),
        ("tmp/builtin/optional/b.tcz", "b.tcz"),
        ("tmp/builtin/optional/b.tcz.dep", "b.tcz.dep"),
        ("tmp/builtin/optional/b.tcz.md5.txt", "b.tcz.md5.txt"),
    ]
    assert found[0] == directory("tmp", 0o1777)
    with pytest.raises(UserError, match="not built in: c"):
        embedded.builtin_members([tmp_path / "a.tcz"], ["a", "c"])
